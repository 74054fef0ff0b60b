/* SPDX-License-Identifier: MIT */
/* config.json of diffusers and transformers; see model_config.h. */
#include "formats/model_config.h"

#include <jansson.h>
#include <string.h>

static limn_status text_open(json_t **out, const char *json, limn_err *err) {
    json_error_t e;
    *out = json_loads(json, 0, &e);
    if (*out && json_is_object(*out)) return LIMN_OK;
    json_decref(*out);
    *out = NULL;
    return limn_fail(err, LIMN_E_FORMAT, "config.json: line %d: %s", e.line,
                     e.text[0] ? e.text : "not an object");
}

static double number_get(json_t *tree, const char *key, double fallback) {
    json_t *v = json_object_get(tree, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static int int_get(json_t *tree, const char *key, int fallback) {
    double d = number_get(tree, key, fallback);
    return d >= -1e9 && d <= 1e9 ? (int)d : fallback;
}

static bool bool_get(json_t *tree, const char *key, bool fallback) {
    json_t *v = json_object_get(tree, key);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

/* A key that must be absent, null, false or one of two words. */
typedef struct limit_row {
    const char *key, *word, *word2;
} limit_row;

static limn_status limits_check(json_t *tree, const limit_row *rows, size_t n, limn_err *err) {
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_object_get(tree, rows[i].key);
        const char *s = json_string_value(v);
        if (!v || json_is_null(v) || json_is_false(v)) continue;
        if (s && rows[i].word && strcmp(s, rows[i].word) == 0) continue;
        if (s && rows[i].word2 && strcmp(s, rows[i].word2) == 0) continue;
        return limn_fail(err, LIMN_E_UNSUPPORTED, "config.json: \"%s\"%s%s is not supported",
                         rows[i].key, s ? " = " : "", s ? s : "");
    }
    return LIMN_OK;
}

/* Element i of a number or a list of numbers. */
static int per_level(json_t *v, int i, int fallback) {
    if (json_is_array(v)) v = json_array_get(v, (size_t)i);
    return json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) < 1 << 20
               ? (int)json_integer_value(v)
               : fallback;
}

limn_status limn_unet_config_parse(limn_unet_config *cfg, const char *json, limn_err *err) {
    static const limit_row rows[] = {
        {"addition_embed_type", "text_time", NULL},
        {"attention_type", "default", NULL},
        {"class_embed_type", NULL, NULL},
        {"cross_attention_norm", NULL, NULL},
        {"dual_cross_attention", NULL, NULL},
        {"encoder_hid_dim_type", NULL, NULL},
        {"only_cross_attention", NULL, NULL},
        {"mid_block_only_cross_attention", NULL, NULL},
        {"resnet_time_scale_shift", "default", NULL},
        {"resnet_skip_time_act", NULL, NULL},
        {"time_embedding_type", "positional", NULL},
        {"time_embedding_act_fn", NULL, NULL},
        {"timestep_post_act", NULL, NULL},
        {"center_input_sample", NULL, NULL},
        {"act_fn", "silu", "swish"},
        {"mid_block_type", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D"},
    };
    json_t *tree = NULL;
    limn_status st;
    LIMN_TRY(text_open(&tree, json, err));
    LIMN_TRY(limits_check(tree, rows, sizeof rows / sizeof rows[0], err));
    /* diffusers: "attention_head_dim" is the number of heads unless num_attention_heads is given;
     * unets/unet_2d_condition.py explains the misnomer. */
    json_t *heads = json_object_get(tree, "num_attention_heads");
    if (!heads || json_is_null(heads)) heads = json_object_get(tree, "attention_head_dim");
    for (int l = 0; l < cfg->levels; l++) {
        cfg->heads[l] = per_level(heads, l, 8);
        LIMN_CHECK(err, cfg->channels[l] % cfg->heads[l] == 0, LIMN_E_FORMAT,
                   "config.json: %d channels do not divide into %d heads", cfg->channels[l],
                   cfg->heads[l]);
    }
    cfg->groups = int_get(tree, "norm_num_groups", 32);
    cfg->norm_eps = (float)number_get(tree, "norm_eps", 1e-5);
    cfg->add_time_dim = int_get(tree, "addition_time_embed_dim", 256);
    cfg->flip_sin_to_cos = bool_get(tree, "flip_sin_to_cos", true);
    cfg->freq_shift = (float)number_get(tree, "freq_shift", 0);
    cfg->sample_size = int_get(tree, "sample_size", 0);
    cfg->linear_proj = bool_get(tree, "use_linear_projection", cfg->linear_proj);
    LIMN_CHECK(err, cfg->groups > 0 && cfg->add_time_dim > 0 && cfg->add_time_dim % 2 == 0,
               LIMN_E_FORMAT, "config.json: norm_num_groups or addition_time_embed_dim is wrong");
out:
    json_decref(tree);
    return st;
}

limn_status limn_vae_config_parse(limn_vae_config *cfg, const char *json, limn_err *err) {
    static const limit_row rows[] = {{"act_fn", "silu", "swish"}};
    json_t *tree = NULL;
    limn_status st;
    LIMN_TRY(text_open(&tree, json, err));
    LIMN_TRY(limits_check(tree, rows, 1, err));
    cfg->groups = int_get(tree, "norm_num_groups", 32);
    cfg->scaling_factor = (float)number_get(tree, "scaling_factor", 0.18215);
    cfg->shift_factor = (float)number_get(tree, "shift_factor", 0);
    cfg->force_upcast = bool_get(tree, "force_upcast", true);
    LIMN_CHECK(err, cfg->groups > 0, LIMN_E_FORMAT, "config.json: norm_num_groups is wrong");
out:
    json_decref(tree);
    return st;
}

limn_status limn_taesd_config_parse(limn_taesd_config *cfg, const char *json, limn_err *err) {
    static const limit_row rows[] = {{"act_fn", "relu", NULL}, {"upsample_fn", "nearest", NULL}};
    json_t *tree = NULL;
    limn_status st;
    LIMN_TRY(text_open(&tree, json, err));
    LIMN_TRY(limits_check(tree, rows, 2, err));
    cfg->scaling_factor = (float)number_get(tree, "scaling_factor", 1);
    cfg->shift_factor = (float)number_get(tree, "shift_factor", 0);
out:
    json_decref(tree);
    return st;
}

limn_status limn_clip_config_parse(limn_clip_config *cfg, const char *json, limn_err *err) {
    json_t *tree = NULL;
    limn_status st;
    LIMN_TRY(text_open(&tree, json, err));
    const char *act = json_string_value(json_object_get(tree, "hidden_act"));
    if (!act) act = "quick_gelu"; /* the default of CLIPTextConfig */
    bool quick = strcmp(act, "quick_gelu") == 0;
    LIMN_CHECK(err, quick || strcmp(act, "gelu") == 0, LIMN_E_UNSUPPORTED,
               "config.json: \"hidden_act\" = %s is not supported", act);
    cfg->act = quick ? LIMN_CLIP_QUICK_GELU : LIMN_CLIP_GELU;
    cfg->heads = int_get(tree, "num_attention_heads", cfg->heads);
    LIMN_CHECK(err, cfg->heads > 0 && cfg->width % cfg->heads == 0, LIMN_E_FORMAT,
               "config.json: %d channels do not divide into %d heads", cfg->width, cfg->heads);
    cfg->norm_eps = (float)number_get(tree, "layer_norm_eps", 1e-5);
    /* Configs from before 2023 say eos 2 and bos 0, which transformers itself overrides by taking
     * the largest id; the tokenizer's real ids are the last two of the vocabulary. */
    int eos = int_get(tree, "eos_token_id", 2), bos = int_get(tree, "bos_token_id", 0);
    bool old = eos == 2 || eos >= cfg->vocab || bos >= cfg->vocab || bos < 0 || eos < 0;
    cfg->eos = old ? cfg->vocab - 1 : eos;
    cfg->bos = old ? cfg->vocab - 2 : bos;
    cfg->pad = quick ? cfg->eos : 0;
out:
    json_decref(tree);
    return st;
}

/* diffusers' classes by limn's names. PNDM is left out: Stable Diffusion 1 files name it from habit
 * and nobody draws with it; limn's own default needs fewer steps. */
typedef struct scheduler_row {
    const char *class_name, *sampler;
    bool multistep; /* its "leading" spacing leaves out the first of n + 1 parts */
    const char *spacing;
} scheduler_row;

static const scheduler_row schedulers[] = {
    {"DDIMScheduler", "DDIM", false, "leading"},
    {"DDPMScheduler", "DDPM", false, "leading"},
    {"EulerDiscreteScheduler", "Euler", false, "linspace"},
    {"EulerAncestralDiscreteScheduler", "Euler a", false, "linspace"},
    {"LMSDiscreteScheduler", "LMS", false, "linspace"},
    {"HeunDiscreteScheduler", "Heun", false, "linspace"},
    {"KDPM2DiscreteScheduler", "DPM2", false, "linspace"},
    {"KDPM2AncestralDiscreteScheduler", "DPM2 a", false, "linspace"},
    {"DPMSolverMultistepScheduler", "DPM++ 2M", true, "linspace"},
    {"UniPCMultistepScheduler", "UniPC", true, "linspace"},
    {"DEISMultistepScheduler", "DEIS", true, "linspace"},
    {"LCMScheduler", "LCM", false, NULL},
    {"TCDScheduler", "TCD", false, NULL},
};

/* set_alpha_to_one is true unless said in DDIM, false in PNDM (diffusers schedulers/). */
static void scheduler_advise(limn_trained_noise *cfg, json_t *tree, const char *name) {
    static const char *const sigmas[][2] = {{"use_karras_sigmas", "Karras"},
                                            {"use_exponential_sigmas", "Exponential"},
                                            {"use_beta_sigmas", "Beta"}};
    static const char *const spacings[][2] = {
        {"leading", "Leading"}, {"trailing", "Trailing"}, {"linspace", "Linspace"}};
    bool pndm = !name || strcmp(name, "PNDMScheduler") == 0;
    cfg->ends_noisy = !bool_get(tree, "set_alpha_to_one", !pndm);
    cfg->sampler = cfg->schedule = "";
    const scheduler_row *r = NULL;
    for (size_t i = 0; name && i < sizeof schedulers / sizeof schedulers[0]; i++)
        if (strcmp(schedulers[i].class_name, name) == 0) r = &schedulers[i];
    if (!r) return;
    cfg->sampler = r->sampler;
    const char *algorithm = json_string_value(json_object_get(tree, "algorithm_type"));
    if (r->multistep && algorithm && strcmp(algorithm, "sde-dpmsolver++") == 0)
        cfg->sampler = "DPM++ 2M SDE";
    if (!r->spacing) return;
    const char *spacing = json_string_value(json_object_get(tree, "timestep_spacing"));
    if (!spacing) spacing = r->spacing;
    for (size_t i = 0; i < sizeof spacings / sizeof spacings[0]; i++)
        if (strcmp(spacing, spacings[i][0]) == 0) cfg->schedule = spacings[i][1];
    if (r->multistep && strcmp(cfg->schedule, "Leading") == 0)
        cfg->schedule = "Leading (multistep)";
    for (size_t i = 0; i < sizeof sigmas / sizeof sigmas[0]; i++)
        if (bool_get(tree, sigmas[i][0], false)) cfg->schedule = sigmas[i][1];
}

limn_status limn_trained_noise_parse(limn_trained_noise *cfg, const char *json, limn_err *err) {
    static const struct {
        const char *word;
        limn_trained_prediction prediction;
    } words[] = {{"epsilon", LIMN_TRAINED_EPS},
                 {"v_prediction", LIMN_TRAINED_V},
                 {"sample", LIMN_TRAINED_SAMPLE},
                 {"flow_prediction", LIMN_TRAINED_FLOW}};
    json_t *tree = NULL;
    limn_status st;
    *cfg = (limn_trained_noise){.shift = 1};
    LIMN_TRY(text_open(&tree, json, err));
    const char *name = json_string_value(json_object_get(tree, "_class_name"));
    const char *word = json_string_value(json_object_get(tree, "prediction_type"));
    bool flow = name && strstr(name, "FlowMatch") != NULL, found = word == NULL;
    cfg->prediction = flow ? LIMN_TRAINED_FLOW : LIMN_TRAINED_EPS;
    for (size_t i = 0; word && i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i].word, word) == 0) {
            cfg->prediction = words[i].prediction;
            found = true;
        }
    LIMN_CHECK(err, found, LIMN_E_UNSUPPORTED,
               "scheduler_config.json: \"prediction_type\" = %s is not supported", word);
    if (name && strncmp(name, "EDM", 3) == 0) {
        cfg->prediction = LIMN_TRAINED_EDM;
        cfg->sigma_min = number_get(tree, "sigma_min", 0.002);
        cfg->sigma_max = number_get(tree, "sigma_max", 80);
    }
    const char *betas = json_string_value(json_object_get(tree, "beta_schedule"));
    cfg->scaled_linear = !betas || strcmp(betas, "scaled_linear") == 0;
    LIMN_CHECK(err, cfg->scaled_linear || strcmp(betas, "linear") == 0, LIMN_E_UNSUPPORTED,
               "scheduler_config.json: \"beta_schedule\" = %s is not supported", betas);
    cfg->train_steps = int_get(tree, "num_train_timesteps", 1000);
    cfg->beta_start = number_get(tree, "beta_start", 0.00085);
    cfg->beta_end = number_get(tree, "beta_end", 0.012);
    cfg->zero_snr = bool_get(tree, "rescale_betas_zero_snr", false);
    cfg->shift = number_get(tree, "shift", 1);
    scheduler_advise(cfg, tree, name);
    LIMN_CHECK(err, cfg->train_steps > 0, LIMN_E_FORMAT,
               "scheduler_config.json: num_train_timesteps is wrong");
out:
    json_decref(tree);
    return st;
}
