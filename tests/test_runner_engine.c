/* SPDX-License-Identifier: MIT */
/* Jobs over the real engine with tiny random models: the shelf, drawing, seeing, loading. */
#include "job/runner_engine.h"
#include "job_fixture.h"

static char models[4096];

static limn_queue *engine_open(const char *dir, const char *memory) {
    limn_err err = {0};
    limn_params *app;
    limn_queue *q;
    assert_ok(err, limn_params_new(&app, LIMN_PARAMS_APP, &err));
    assert_ok(err, limn_params_set(app, "models_dir", models, LIMN_FROM_API, &err));
    assert_ok(err, limn_params_set(app, "cache_dir", "none", LIMN_FROM_API, &err));
    assert_ok(err, limn_params_set(app, "threads", "1", LIMN_FROM_API, &err));
    if (memory) assert_ok(err, limn_params_set(app, "memory", memory, LIMN_FROM_API, &err));
    assert_ok(err, limn_queue_open_engine(&q, dir, app, NULL, &err));
    limn_params_free(&app);
    return q;
}

static void assert_succeeded(const limn_job *j) {
    if (j->state != LIMN_JOB_SUCCEEDED)
        fail_msg("%s: %s", limn_job_state_word(j->state), j->error_text);
}

static const char tiny[] =
    "{\"model\": \"pipe/sd1\", \"prompt\": \"a fox\", \"steps\": 2, \"seed\": 5,"
    " \"width\": 32, \"height\": 32}";

/* ---- names ---- */
static void test_shelf(void **state) {
    limn_err err = {0};
    limn_shelf *s;
    limn_shelf_item item;
    limn_shelf_page page;
    char *json;
    assert_ok(err, limn_shelf_new(&s, models, &err));
    assert_ok(err, limn_shelf_find(s, &item, LIMN_SHELF_DRAW, "PIPE/SD1", &err));
    assert_string_equal(item.name, "pipe/sd1");
    assert_string_equal(item.family, "sd1");
    limn_shelf_item_deinit(&item);
    assert_ok(err, limn_shelf_find(s, &item, LIMN_SHELF_DRAW, "pipe/sd1.safetensors", &err));
    assert_string_equal(item.name, "pipe/sd1.safetensors");
    limn_shelf_item_deinit(&item);
    assert_ok(err, limn_shelf_find(s, &item, LIMN_SHELF_DRAW, "sd1_v [0123456789]", &err));
    assert_string_equal(item.name, "pipe/sd1_v");
    limn_shelf_item_deinit(&item);
    assert_ok(err, limn_shelf_find(s, &item, LIMN_SHELF_SEE, "tiny_see", &err));
    limn_shelf_item_deinit(&item);
    static const char *const bad[] = {"/etc/passwd", "../golden/pipe/sd1", "pipe", "no such"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(limn_shelf_find(s, &item, LIMN_SHELF_DRAW, bad[i], &err),
                         LIMN_E_NOT_FOUND);
    assert_ok(err, limn_shelf_set_default(s, LIMN_SHELF_DRAW, "pipe/sdxl", &err));
    assert_ok(err, limn_shelf_refresh(s, &err));
    assert_ok(err, limn_shelf_list(s, &page, 1u << LIMN_SHELF_DRAW, &err));
    int defaults = 0;
    for (int i = 0; i < page.count; i++) {
        assert_int_equal(page.items[i].kind, LIMN_SHELF_DRAW);
        assert_true(page.items[i].bytes > 0);
        defaults += page.items[i].is_default;
        if (page.items[i].is_default) assert_string_equal(page.items[i].name, "pipe/sdxl");
    }
    assert_int_equal(defaults, page.count > 0 ? 1 : -1);
    limn_shelf_page_deinit(&page);
    assert_ok(err, limn_shelf_info(s, &json, LIMN_SHELF_DRAW, "pipe/sd1", &err));
    assert_null(strstr(json, models));
    limn_text_free(&json);
    limn_shelf_free(&s);
}

/* ---- drawing ---- */
/* The job draws what limn_draw draws, and its recipe draws it again. */
static void test_draw(void **state) {
    char *dir = folder_make();
    limn_queue *q = engine_open(dir, NULL);
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err, draw(q, tiny, &(limn_submit){.preview_every = 1}, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_succeeded(j);
    assert_int_equal(j->n_artifacts, 1);
    assert_int_equal(j->artifacts[0].width, 32);
    assert_non_null(strstr(j->artifacts[0].recipe, "\"model\": \"pipe/sd1\""));
    assert_non_null(strstr(j->artifacts[0].text, "Seed: 5"));

    limn_params *app, *gen = gen_make(tiny);
    limn_engine *engine;
    limn_drawing *d;
    void *data;
    size_t size;
    char path[5000];
    limn_image *drawn;
    snprintf(path, sizeof path, "%s/pipe/sd1", models);
    assert_ok(err, limn_params_new(&app, LIMN_PARAMS_APP, &err));
    assert_ok(err, limn_params_set(app, "cache_dir", "none", LIMN_FROM_API, &err));
    assert_ok(err, limn_params_set(gen, "model", path, LIMN_FROM_SCRIPT, &err));
    assert_ok(err, limn_engine_new(&engine, app, &err));
    assert_ok(err, limn_draw(&d, engine, gen, NULL, &err));
    assert_ok(
        err, limn_artifacts_read(limn_queue_artifacts(q), &data, &size, j->artifacts[0].sha, &err));
    assert_ok(err, limn_image_decode(&drawn, data, size, &err));
    assert_memory_equal(limn_image_bytes(drawn), limn_image_bytes(limn_drawing_image(d, 0)),
                        32 * 32 * 3);
    limn_image_free(&drawn);
    limn_mem_free(data);
    limn_drawing_free(&d);
    limn_engine_free(&engine);
    limn_params_free(&app);
    limn_params_free(&gen);

    assert_ok(err, draw(q, j->artifacts[0].recipe, NULL, &s, &err));
    limn_job *again = ended(q, s.id);
    assert_succeeded(again);
    assert_string_equal(again->artifacts[0].sha, j->artifacts[0].sha);
    limn_job_free(&again);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* A picture to start from comes by reference, and the recipe says so too: no path anywhere. */
static void test_edit(void **state) {
    char *dir = folder_make(), json[500];
    limn_queue *q = engine_open(dir, NULL);
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err, draw(q, tiny, NULL, &s, &err));
    limn_job *a = ended(q, s.id);
    assert_succeeded(a);
    snprintf(json, sizeof json,
             "{\"model\": \"pipe/sd1\", \"prompt\": \"a dog\", \"steps\": 2, \"width\": 32,"
             " \"height\": 32, \"init_image\": \"artifact:%s\", \"mask\": \"artifact:%s\"}",
             a->artifacts[0].sha, a->artifacts[0].sha);
    assert_ok(err, draw(q, json, NULL, &s, &err));
    limn_job *b = ended(q, s.id);
    assert_succeeded(b);
    assert_int_equal(b->n_artifacts, 2);
    assert_non_null(strstr(b->artifacts[1].recipe, a->artifacts[0].sha));
    assert_null(strstr(b->artifacts[1].recipe, dir));
    assert_null(strstr(b->artifacts[1].text, dir));
    /* enlarged */
    snprintf(json, sizeof json,
             "{\"init_image\": \"artifact:%s\", \"upscaler\": \"Lanczos\", \"upscale\": 2}",
             b->artifacts[1].sha);
    assert_ok(err, draw(q, json, &(limn_submit){.kind = LIMN_JOB_UPSCALE}, &s, &err));
    limn_job *c = ended(q, s.id);
    assert_succeeded(c);
    assert_int_equal(c->artifacts[1].width, 64);
    assert_non_null(strstr(c->artifacts[1].text, "a dog"));
    limn_job_free(&a);
    limn_job_free(&b);
    limn_job_free(&c);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_refusals(void **state) {
    char *dir = folder_make();
    limn_queue *q = engine_open(dir, NULL);
    limn_err err = {0};
    limn_submitted s;
    static const struct {
        const char *json;
        limn_status st;
    } cases[] = {
        {"{\"model\": \"nothing\"}", LIMN_E_NOT_FOUND},
        {"{\"model\": \"/etc/passwd\"}", LIMN_E_NOT_FOUND},
        {"{\"model\": \"pipe/sd1\", \"vae\": \"../../secret\"}", LIMN_E_NOT_FOUND},
        {"{\"model\": \"pipe/sd1\", \"sampler\": \"nothing\"}", LIMN_E_VALUE},
        {"{\"model\": \"pipe/sd1\", \"upscaler\": \"/etc/passwd\"}", LIMN_E_NOT_FOUND},
        {"{\"model\": \"pipe/sd1\", \"loras\": [\"/etc/passwd:1\"]}", LIMN_E_NOT_FOUND},
        {"{\"model\": \"pipe/sd1\", \"init_image\": \"/etc/passwd\"}", LIMN_E_VALUE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_status st = draw(q, cases[i].json, NULL, &s, &err);
        if (st != cases[i].st)
            fail_msg("%s: %s: %s", cases[i].json, limn_status_text(st), err.text);
        assert_null(strstr(err.text, models));
        assert_null(strstr(err.text, dir));
    }
    /* what only the run can see: a name in the prompt */
    assert_ok(err, draw(q,
                        "{\"model\": \"pipe/sd1\", \"prompt\": \"<lora:/etc/passwd:1>\","
                        " \"steps\": 1, \"width\": 32, \"height\": 32}",
                        NULL, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_FAILED);
    assert_int_equal(j->error, LIMN_E_NOT_FOUND);
    assert_null(strstr(j->error_text, models));
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_cancel(void **state) {
    char *dir = folder_make();
    limn_queue *q = engine_open(dir, NULL);
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err,
              draw(q,
                   "{\"model\": \"pipe/sd1\", \"steps\": 1000, \"width\": 128, \"height\": 128,"
                   " \"sampler\": \"Euler\"}",
                   NULL, &s, &err));
    limn_standing at = {0};
    for (int i = 0; i < 2000 && at.step < 2; i++) {
        assert_ok(err, limn_queue_standing(q, NULL, s.id, &at, &err));
        sleep_ms(2);
    }
    assert_true(at.step >= 2);
    assert_string_equal(at.stage, "denoise");
    assert_true(at.progress > 0 && at.progress < 1);
    assert_ok(err, limn_queue_cancel(q, NULL, s.id, NULL, &err));
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_CANCELLED);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_grid(void **state) {
    char *dir = folder_make();
    limn_queue *q = engine_open(dir, NULL);
    limn_err err = {0};
    limn_submitted s;
    static const char axes[] =
        "{\"axes\": [{\"parameter\": \"steps\", \"values\": [1, 2]},"
        "{\"parameter\": \"model\", \"values\": [\"pipe/sd1\", \"sd1_v [12345678]\"]}]}";
    limn_submit sub = {.kind = LIMN_JOB_GRID, .json = axes, .json_len = strlen(axes)};
    assert_ok(err, draw(q, tiny, &sub, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_succeeded(j);
    assert_int_equal(j->n_artifacts, 5);
    limn_job_free(&j);
    static const char bad[] =
        "{\"axes\": [{\"parameter\": \"sampler\", \"values\": [\"nothing\"]}]}";
    sub.json = bad;
    sub.json_len = strlen(bad);
    assert_int_equal(draw(q, tiny, &sub, &s, &err), LIMN_E_VALUE);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- what it would take ---- */
static limn_draw_cost cost_of(limn_queue *q, const char *json, const char *axes) {
    limn_err err = {0};
    limn_runner *r = limn_queue_runner(q);
    limn_params *p;
    limn_job *j;
    limn_draw_cost cost;
    assert_ok(err, limn_params_new(&p, LIMN_PARAMS_GEN, &err));
    assert_ok(err, limn_params_parse_json(p, json, strlen(json), LIMN_FROM_API, &err));
    assert_ok(err, limn_job_new(&j, &err));
    limn_submit s = {.kind = axes ? LIMN_JOB_GRID : LIMN_JOB_DRAW,
                     .params = p,
                     .json = axes,
                     .json_len = axes ? strlen(axes) : 0};
    j->kind = s.kind;
    assert_ok(err, r->ops->prepare(r, j, &s, &err));
    assert_ok(err, limn_runner_engine_cost(r, &cost, j, &err));
    limn_job_free(&j);
    limn_params_free(&p);
    return cost;
}

static void test_cost(void **state) {
    char *dir = folder_make();
    limn_queue *q = engine_open(dir, NULL);
    limn_draw_cost one = cost_of(q, tiny, NULL);
    assert_true(one.model > 0 && one.work > 0);
    /* four times the pixels: at least twice the memory, and no more than the square of it */
    limn_draw_cost large = cost_of(
        q, "{\"prompt\": \"a\", \"model\": \"pipe/sd1\", \"width\": 128, \"height\": 128}", NULL);
    limn_draw_cost small = cost_of(
        q, "{\"prompt\": \"a\", \"model\": \"pipe/sd1\", \"width\": 64, \"height\": 64}", NULL);
    assert_true(large.work >= 2 * small.work && large.work <= 16 * small.work);
    assert_int_equal(large.model, small.model);
    /* a grid takes what its largest cell takes */
    limn_draw_cost grid =
        cost_of(q, "{\"prompt\": \"a\", \"model\": \"pipe/sd1\", \"height\": 128}",
                "{\"axes\": [{\"parameter\": \"width\", \"values\": [64, 128, 96]},"
                "{\"parameter\": \"steps\", \"values\": [1, 9]}]}");
    assert_int_equal(grid.work, large.work);
    /* enlarging on the way counts, and asking opens nothing */
    limn_draw_cost hires = cost_of(q,
                                   "{\"prompt\": \"a\", \"model\": \"pipe/sd1\", \"width\": 64,"
                                   " \"height\": 64, \"hires_scale\": 2}",
                                   NULL);
    assert_int_equal(hires.work, large.work);
    limn_model_memory memory;
    limn_runner_engine_memory(limn_queue_runner(q), &memory);
    assert_int_equal(memory.loaded, 0);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- seeing ---- */
static void test_see(void **state) {
    char *dir = folder_make(), json[1000];
    limn_queue *q = engine_open(dir, NULL);
    limn_err err = {0};
    limn_submitted s;
    limn_params *see;
    assert_ok(err, draw(q, tiny, NULL, &s, &err));
    limn_job *a = ended(q, s.id);
    assert_succeeded(a);
    assert_ok(err, limn_params_new(&see, LIMN_PARAMS_SEE, &err));
    assert_ok(err, limn_params_set(see, "model", "tiny_see", LIMN_FROM_API, &err));
    assert_ok(err, limn_params_set(see, "max_tokens", "6", LIMN_FROM_API, &err));
    assert_ok(err, limn_params_set(see, "logprobs", "2", LIMN_FROM_API, &err));
    snprintf(json, sizeof json,
             "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\":"
             " \"artifact:%s\"}, {\"type\": \"text\", \"text\": \"What Is This?\"}]}]}",
             a->artifacts[0].sha);
    limn_submit sub = {.kind = LIMN_JOB_SEE, .params = see, .json = json, .json_len = strlen(json)};
    assert_ok(err, limn_queue_submit(q, &sub, &s, &err));
    limn_feed *feed;
    assert_ok(err, limn_queue_subscribe(q, &(limn_feed_options){.job = s.id}, &feed, &err));
    limn_buf said;
    limn_buf_init(&said, 1 << 16);
    int pieces = 0, with_logprobs = 0;
    bool over = false;
    while (!over) {
        const limn_job_event *e = limn_feed_wait(feed, 20000, NULL);
        assert_non_null(e);
        if (e->kind == LIMN_JOB_EVENT_TEXT) {
            limn_buf_add(&said, e->text, e->text_len);
            pieces++;
            with_logprobs += e->data != NULL;
        }
        over = e->kind == LIMN_JOB_EVENT_STATE && limn_job_state_is_final(e->state);
        limn_job_event_unref(&e);
    }
    limn_feed_close(&feed);
    limn_job *j = ended(q, s.id);
    assert_succeeded(j);
    assert_string_equal(j->words, "what is this?");
    assert_string_equal(j->title, "What Is This?");
    assert_true(pieces > 0 && with_logprobs > 0);
    assert_non_null(strstr(j->result, "\"finish_reason\":\"length\""));
    assert_non_null(strstr(j->result, "\"completion_tokens\":6"));
    assert_null(strstr(j->result, "\"image_tokens\":0"));
    limn_buf_deinit(&said);
    limn_job_free(&j);
    limn_job_free(&a);
    /* a second question finds the model open */
    limn_shelf_page page;
    int loaded = 0;
    assert_ok(err, limn_runner_engine_models(limn_queue_runner(q), &page, 0, &err));
    for (int i = 0; i < page.count; i++) loaded += page.items[i].loaded;
    assert_int_equal(loaded, 2);
    limn_shelf_page_deinit(&page);
    assert_ok(err, limn_params_set(see, "context", "4096", LIMN_FROM_API, &err));
    assert_int_equal(limn_queue_submit(q, &sub, &s, &err), LIMN_E_VALUE);
    limn_params_free(&see);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- models ---- */
static limn_job *ask_model(limn_queue *q, limn_job_kind kind, const char *name) {
    limn_err err = {0};
    limn_submitted s;
    char json[200];
    snprintf(json, sizeof json, "{\"model\": \"%s\"}", name);
    limn_submit sub = {.kind = kind, .json = json, .json_len = strlen(json)};
    assert_ok(err, limn_queue_submit(q, &sub, &s, &err));
    return ended(q, s.id);
}

static void test_models(void **state) {
    char *dir = folder_make();
    limn_queue *q = engine_open(dir, "1M"); /* room for none: one at a time */
    limn_model_memory m;
    limn_job *j = ask_model(q, LIMN_JOB_LOAD, "pipe/sd1");
    assert_succeeded(j);
    limn_job_free(&j);
    limn_runner_engine_memory(limn_queue_runner(q), &m);
    assert_int_equal(m.budget, 1 << 20);
    assert_int_equal(m.loaded, 1);
    assert_true(m.used > 0);
    j = ask_model(q, LIMN_JOB_LOAD, "pipe/sdxl");
    assert_succeeded(j);
    limn_job_free(&j);
    limn_runner_engine_memory(limn_queue_runner(q), &m);
    assert_int_equal(m.loaded, 1); /* the other one had to go */
    j = ask_model(q, LIMN_JOB_UNLOAD, "pipe/sd1");
    assert_int_equal(j->error, LIMN_E_NOT_FOUND);
    limn_job_free(&j);
    j = ask_model(q, LIMN_JOB_UNLOAD, "pipe/sdxl");
    assert_succeeded(j);
    limn_job_free(&j);
    limn_runner_engine_memory(limn_queue_runner(q), &m);
    assert_int_equal(m.loaded, 0);
    assert_int_equal(m.used, 0);
    char *tokens;
    limn_err err = {0};
    assert_ok(err,
              limn_runner_engine_tokens(limn_queue_runner(q), &tokens, "pipe/sd1", "a fox", &err));
    assert_non_null(strstr(tokens, "\"count\":"));
    limn_text_free(&tokens);
    limn_queue_close(&q);
    folder_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shelf),  cmocka_unit_test(test_draw),
        cmocka_unit_test(test_edit),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cancel), cmocka_unit_test(test_grid),
        cmocka_unit_test(test_cost),   cmocka_unit_test(test_see),
        cmocka_unit_test(test_models),
    };
    const char *golden = getenv("LIMN_GOLDEN_DIR");
    snprintf(models, sizeof models, "%s", golden ? golden : "tests/golden");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
