/* SPDX-License-Identifier: MIT */
/* Job records: words, ids, copies; see job.h. */
#include "job/job.h"

#include <sodium.h>
#include <string.h>

#include "param/param.h"

/* ---- words ---- */
static const struct {
    const char *word;
    bool final;
} states[] = {
#define X(id, word, final) {word, final},
    LIMN_JOB_STATE_LIST(X)
#undef X
};

static const char *const kinds[] = {
#define X(id, word, about) word,
    LIMN_JOB_KIND_LIST(X)
#undef X
};

static const char *const roles[] = {"result", "input", "sheet", "extra"};

const char *limn_artifact_role_word(limn_artifact_role r) {
    return (unsigned)r < sizeof roles / sizeof roles[0] ? roles[r] : "extra";
}

static const char *const lane_words[] = {
#define X(id, word) [LIMN_JOB_LANE_##id] = word,
    LIMN_JOB_LANE_LIST(X)
#undef X
};

const char *limn_job_lane_word(limn_job_lane l) {
    return (unsigned)l < LIMN_JOB_LANES ? lane_words[l] : "?";
}

limn_job_lane limn_job_kind_lane(limn_job_kind k) {
    return k == LIMN_JOB_SEE ? LIMN_JOB_LANE_SEE : LIMN_JOB_LANE_DRAW;
}

const char *limn_job_state_word(limn_job_state s) {
    return (unsigned)s < LIMN_JOB_STATES ? states[s].word : "unknown";
}

const char *limn_job_kind_word(limn_job_kind k) {
    return (unsigned)k < LIMN_JOB_KINDS ? kinds[k] : "unknown";
}

bool limn_job_state_find(limn_job_state *out, const char *word) {
    for (int i = 0; i < LIMN_JOB_STATES; i++)
        if (strcmp(states[i].word, word) == 0) {
            *out = (limn_job_state)i;
            return true;
        }
    return false;
}

bool limn_job_kind_find(limn_job_kind *out, const char *word) {
    for (int i = 0; i < LIMN_JOB_KINDS; i++)
        if (strcmp(kinds[i], word) == 0) {
            *out = (limn_job_kind)i;
            return true;
        }
    return false;
}

bool limn_job_state_is_final(limn_job_state s) {
    return (unsigned)s < LIMN_JOB_STATES && states[s].final;
}

bool limn_job_state_may(limn_job_state from, limn_job_state to) {
    static const unsigned arrows[LIMN_JOB_STATES] = {
        [LIMN_JOB_QUEUED] = 1u << LIMN_JOB_RUNNING | 1u << LIMN_JOB_CANCELLED,
        [LIMN_JOB_RUNNING] = 1u << LIMN_JOB_QUEUED | 1u << LIMN_JOB_SUCCEEDED |
                             1u << LIMN_JOB_FAILED | 1u << LIMN_JOB_CANCELLED,
    };
    return (unsigned)from < LIMN_JOB_STATES && (unsigned)to < LIMN_JOB_STATES &&
           (arrows[from] >> to & 1);
}

/* ---- records ---- */
void limn_artifact_deinit(limn_artifact *a) {
    limn_mem_free(a->recipe);
    limn_mem_free(a->text);
    *a = (limn_artifact){0};
}

limn_status limn_job_set_text(char **field, const char *text, limn_err *err) {
    char *copy = text ? limn_mem_strdup(text) : NULL;
    if (text && !copy) return limn_fail(err, LIMN_E_NOMEM, "no memory for a job");
    limn_mem_free(*field);
    *field = copy;
    return LIMN_OK;
}

limn_status limn_job_new(limn_job **out, limn_err *err) {
    *out = NULL;
    limn_job *j = limn_mem_calloc(1, sizeof *j);
    if (!j) return limn_fail(err, LIMN_E_NOMEM, "no memory for a job");
    char **texts[] = {&j->owner,  &j->source,  &j->model,      &j->words, &j->title,
                      &j->worker, &j->request, &j->error_text, &j->trace};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (limn_job_set_text(texts[i], "", err) != LIMN_OK) {
            limn_job_free(&j);
            return LIMN_E_NOMEM;
        }
    *out = j;
    return LIMN_OK;
}

void limn_job_free(limn_job **job) {
    limn_job *j = job ? *job : NULL;
    if (!j) return;
    char *texts[] = {j->owner, j->source,  j->model,      j->words,  j->title,  j->worker,
                     j->key,   j->request, j->error_text, j->parent, j->result, j->trace};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) limn_mem_free(texts[i]);
    for (int i = 0; i < j->n_tags; i++) limn_mem_free(j->tags[i]);
    limn_mem_free(j->tags);
    for (int i = 0; i < j->n_artifacts; i++) limn_artifact_deinit(&j->artifacts[i]);
    limn_mem_free(j->artifacts);
    limn_mem_free(j);
    *job = NULL;
}

limn_status limn_job_add_artifact(limn_job *job, const limn_artifact *a, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_artifact copy = *a;
    copy.recipe = copy.text = NULL;
    LIMN_TRY(limn_job_set_text(&copy.recipe, a->recipe, err));
    LIMN_TRY(limn_job_set_text(&copy.text, a->text, err));
    limn_artifact *grown =
        limn_mem_realloc(job->artifacts, ((size_t)job->n_artifacts + 1) * sizeof *grown);
    LIMN_CHECK(err, grown, LIMN_E_NOMEM, "no memory for a job");
    job->artifacts = grown;
    grown[job->n_artifacts++] = copy;
    return LIMN_OK;
out:
    limn_artifact_deinit(&copy);
    return st;
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

limn_status limn_job_set_tags(limn_job *job, const char *const *tags, int n_tags, limn_err *err) {
    limn_status st = LIMN_OK;
    int n = 0;
    char **list = NULL;
    LIMN_CHECK(err, n_tags >= 0 && n_tags <= LIMN_JOB_TAGS_MAX, LIMN_E_LIMIT,
               "tags: at most %d of them", LIMN_JOB_TAGS_MAX);
    list = limn_mem_calloc((size_t)n_tags + 1, sizeof *list);
    LIMN_CHECK(err, list, LIMN_E_NOMEM, "no memory for tags");
    for (int i = 0; i < n_tags; i++) {
        size_t len = strlen(tags[i]);
        LIMN_CHECK(err, len >= 1 && len <= LIMN_JOB_TAG_MAX && limn_utf8_is_valid(tags[i], len),
                   LIMN_E_VALUE, "tags: each is 1 to %d bytes of UTF-8", LIMN_JOB_TAG_MAX);
        list[n] = limn_mem_strdup(tags[i]);
        LIMN_CHECK(err, list[n], LIMN_E_NOMEM, "no memory for tags");
        n++;
    }
    qsort(list, (size_t)n, sizeof *list, compare_texts);
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (kept > 0 && strcmp(list[kept - 1], list[i]) == 0)
            limn_mem_free(list[i]);
        else
            list[kept++] = list[i];
    }
    for (int i = 0; i < job->n_tags; i++) limn_mem_free(job->tags[i]);
    limn_mem_free(job->tags);
    job->tags = list;
    job->n_tags = kept;
    return LIMN_OK;
out:
    for (int i = 0; i < n; i++) limn_mem_free(list[i]);
    limn_mem_free(list);
    return st;
}

/* ---- names ---- */
/* RFC 9562, version 7: 48 bits of milliseconds, then random bits. */
void limn_job_id_make(char out[LIMN_JOB_ID_LEN + 1], int64_t unix_ms) {
    uint8_t b[16];
    randombytes_buf(b, sizeof b); /* seeds itself on first use, from any thread */
    for (int i = 0; i < 6; i++) b[i] = (uint8_t)((uint64_t)unix_ms >> (40 - 8 * i));
    b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    static const char digits[] = "0123456789abcdef";
    char *p = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *p++ = '-';
        *p++ = digits[b[i] >> 4];
        *p++ = digits[b[i] & 15];
    }
    *p = 0;
}

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

bool limn_job_id_is_valid(const char *id) {
    for (int i = 0; i < LIMN_JOB_ID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? id[i] != '-' : !is_hex(id[i])) return false;
    }
    return id[LIMN_JOB_ID_LEN] == 0;
}

bool limn_sha_is_valid(const char *sha) {
    for (int i = 0; i < LIMN_SHA_LEN; i++)
        if (!is_hex(sha[i])) return false;
    return sha[LIMN_SHA_LEN] == 0;
}
