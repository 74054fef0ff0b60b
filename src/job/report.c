/* SPDX-License-Identifier: MIT */
/* Jobs in lines or JSON; see report.h. */
#include "job/report.h"

#include <string.h>
#include <time.h>

#include "job/queue_impl.h"
#include "param/param_json.h"

enum { ROWS = 50, TITLE_BYTES = 60 };

static double seconds_of(const limn_job *j) {
    return j->started_ms > 0 && j->finished_ms > j->started_ms
               ? (double)(j->finished_ms - j->started_ms) / 1000
               : 0;
}

static void add_time(limn_buf *out, int64_t unix_ms) {
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;
    char text[40] = "-";
    if (unix_ms > 0 && localtime_r(&t, &tm)) strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm);
    limn_buf_addf(out, "%-16s", text);
}

/* At most n bytes, cut between characters, control characters as blanks. */
static void add_cut(limn_buf *out, const char *text, int n) {
    size_t len = strlen(text), max = n > 0 ? (size_t)n : 0;
    if (len > max) {
        len = max;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) len--;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        limn_buf_addc(out, c < 0x20 || c == 0x7f ? ' ' : (char)c);
    }
}

static void add_line(limn_buf *out, const limn_job *j, int title) {
    limn_buf_addf(out, "%s  %-9s %-7s ", j->id, limn_job_state_word(j->state),
                  limn_job_kind_word(j->kind));
    add_time(out, j->created_ms);
    limn_buf_addf(out, " %5.1fs ", seconds_of(j));
    add_cut(out, j->title, title);
    limn_buf_addc(out, '\n');
}

static void add_member(limn_buf *out, const char *name, const char *text) {
    limn_buf_addf(out, ",\"%s\":", name);
    limn_json_add_string(out, text);
}

static void add_object(limn_buf *out, const limn_job *j, bool whole) {
    limn_buf_addf(out, "{\"id\":\"%s\",\"kind\":\"%s\",\"state\":\"%s\"", j->id,
                  limn_job_kind_word(j->kind), limn_job_state_word(j->state));
    add_member(out, "owner", j->owner);
    add_member(out, "title", j->title);
    add_member(out, "model", j->model);
    limn_buf_addf(out, ",\"priority\":%d,\"attempt\":%d,\"images\":%d", j->priority, j->attempt,
                  j->images);
    limn_buf_addf(out, ",\"created\":%lld,\"started\":%lld,\"finished\":%lld",
                  (long long)j->created_ms, (long long)j->started_ms, (long long)j->finished_ms);
    if (j->error != LIMN_OK) add_member(out, "error", j->error_text);
    if (whole) {
        limn_buf_addf(out, ",\"request\":%s,\"result\":%s,\"artifacts\":[",
                      j->request[0] ? j->request : "null", j->result ? j->result : "null");
        for (int i = 0; i < j->n_artifacts; i++)
            limn_buf_addf(out, "%s\"%s\"", i ? "," : "", j->artifacts[i].sha);
        limn_buf_addc(out, ']');
    }
    limn_buf_addc(out, '}');
}

static void add_whole(limn_buf *out, const limn_job *j) {
    add_line(out, j, 1000);
    limn_buf_addf(out, "owner     %s\nmodel     %s\nattempts  %d of %d\nrequest   %s\n",
                  j->owner[0] ? j->owner : "-", j->model[0] ? j->model : "-", j->attempt,
                  j->max_attempts, j->request);
    if (j->error != LIMN_OK) limn_buf_addf(out, "error     %s\n", j->error_text);
    if (j->result) limn_buf_addf(out, "answer    %s\n", j->result);
    for (int i = 0; i < j->n_artifacts; i++)
        limn_buf_addf(out, "%-9s blobs/%.2s/%s  %s %dx%d\n",
                      limn_artifact_role_word(j->artifacts[i].role), j->artifacts[i].sha,
                      j->artifacts[i].sha, j->artifacts[i].mime, j->artifacts[i].width,
                      j->artifacts[i].height);
}

static limn_status report_one(limn_buf *out, limn_store *s, const char *id, bool json,
                              limn_err *err) {
    limn_job *j;
    limn_status st = s->ops->get(s, &j, id, err);
    if (st != LIMN_OK) return st;
    if (json)
        add_object(out, j, true);
    else
        add_whole(out, j);
    limn_job_free(&j);
    return LIMN_OK;
}

static void add_counts(limn_buf *out, const limn_job_counts *c, bool json) {
    for (int i = 0; i < LIMN_JOB_STATES; i++)
        limn_buf_addf(out, json ? "%s\"%s\":%lld" : "%s%s %lld", i ? (json ? "," : ", ") : "",
                      limn_job_state_word((limn_job_state)i), (long long)c->state[i]);
}

static limn_status report_list(limn_buf *out, limn_store *s, const limn_job_query *query, bool json,
                               limn_err *err) {
    limn_job_counts counts;
    limn_job_page page = {0};
    limn_status st = LIMN_OK;
    LIMN_TRY(s->ops->counts(s, &counts, NULL, err));
    LIMN_TRY(s->ops->list(s, &page, query, err));
    limn_buf_adds(out, json ? "{\"counts\":{" : "");
    add_counts(out, &counts, json);
    limn_buf_adds(out, json ? "},\"jobs\":[" : "\n");
    for (int i = 0; i < page.count; i++) {
        if (json && i) limn_buf_addc(out, ',');
        if (json)
            add_object(out, page.jobs[i], false);
        else
            add_line(out, page.jobs[i], TITLE_BYTES);
    }
    limn_buf_adds(out, json ? "]}" : page.next ? "...\n" : "");
out:
    limn_job_page_deinit(&page);
    return st;
}

limn_status limn_job_report(limn_buf *out, limn_store *s, const char *what, bool json,
                            limn_err *err) {
    limn_job_query query = {.limit = ROWS};
    limn_job_state state;
    char *words = NULL;
    limn_status st = LIMN_OK;
    if (what && limn_job_id_is_valid(what)) return report_one(out, s, what, json, err);
    if (what && limn_job_state_find(&state, what))
        query.states = 1u << state;
    else if (what && what[0])
        st = queue_fold_words(&words, what, err);
    query.words = words;
    if (st == LIMN_OK) st = report_list(out, s, &query, json, err);
    limn_mem_free(words);
    return st;
}
