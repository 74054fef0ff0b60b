/* SPDX-License-Identifier: MIT */
/*
 * Schemas of the OpenAPI document that no other table has. Draw, See and the parameters come from
 * the parameter tables (openapi.c).
 */
#include "server/api/openapi_table.h"

#define REF(name) "{\"$ref\": \"#/components/schemas/" name "\"}"
#define TEXT "{\"type\": \"string\"}"
#define INT "{\"type\": \"integer\"}"
#define BOOL "{\"type\": \"boolean\"}"
#define MAYBE_INT "{\"type\": [\"integer\", \"null\"]}"
#define MAYBE_TEXT "{\"type\": [\"string\", \"null\"]}"
#define LIST(item) "{\"type\": \"array\", \"items\": " item "}"
#define OBJECT(required, properties)                                                               \
    "{\"type\": \"object\", \"required\": [" required "], \"properties\": {" properties "}}"

/* clang-format off */
const limn_openapi_schema limn_openapi_schemas[] = {
    {"Error", OBJECT("\"error\"", "\"error\": "
        OBJECT("\"type\", \"code\", \"param\", \"message\"",
               "\"type\": " TEXT ", \"code\": " TEXT ", \"param\": " MAYBE_TEXT
               ", \"message\": " TEXT ", \"request_id\": " TEXT))},
    {"JobOptions", "{\"type\": \"object\", \"additionalProperties\": false, \"properties\": {"
        "\"priority\": {\"type\": \"integer\", \"minimum\": -100, \"maximum\": 100}, "
        "\"preview_every\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1000}, "
        "\"keep\": " BOOL ", \"tags\": {\"type\": \"array\", \"maxItems\": 16, \"items\": "
        "{\"type\": \"string\", \"maxLength\": 64}}}}"},
    {"Artifact", OBJECT("\"id\", \"role\", \"index\", \"mime\", \"width\", \"height\", \"bytes\", "
                        "\"seed\", \"url\", \"thumbnail\"",
        "\"id\": {\"type\": \"string\", \"pattern\": \"^[0-9a-f]{64}$\"}, \"role\": {\"enum\": "
        "[\"result\", \"input\", \"sheet\", \"extra\"]}, \"index\": " INT ", \"mime\": " TEXT
        ", \"width\": " INT ", \"height\": " INT ", \"bytes\": " INT ", \"seed\": " MAYBE_INT
        ", \"url\": " TEXT ", \"thumbnail\": " TEXT)},
    {"ArtifactAnswer", OBJECT("\"artifact\", \"recipe\", \"text\"",
        "\"artifact\": " REF("Artifact") ", \"recipe\": {\"type\": [\"object\", \"null\"]}, "
        "\"text\": " MAYBE_TEXT ", \"unknown\": " MAYBE_TEXT ", \"media\": " REF("Media"))},
    {"Media", OBJECT("\"kind\", \"format\", \"total\", \"width\", \"height\", \"fps\", "
                     "\"seconds\"",
        "\"kind\": {\"enum\": [\"picture\", \"clip\", \"document\"]}, \"format\": " TEXT
        ", \"total\": " INT ", \"width\": " INT ", \"height\": " INT
        ", \"fps\": {\"type\": [\"number\", \"null\"]}, "
        "\"seconds\": {\"type\": [\"number\", \"null\"]}")},
    {"Turn", OBJECT("\"role\", \"content\"",
        "\"role\": {\"enum\": [\"system\", \"user\", \"assistant\"]}, \"content\": "
        "{\"anyOf\": [" TEXT ", " LIST(OBJECT("\"type\"",
            "\"type\": {\"enum\": [\"text\", \"image\", \"file\"]}, \"text\": " TEXT
            ", \"image\": " TEXT ", \"file\": " TEXT)) "]}")},
    {"Progress", OBJECT("\"stage\", \"image\", \"images\", \"step\", \"steps\", \"fraction\", "
                        "\"left_ms\"",
        "\"stage\": " TEXT ", \"image\": " INT ", \"images\": " INT ", \"step\": " INT
        ", \"steps\": " INT ", \"fraction\": {\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}"
        ", \"left_ms\": " MAYBE_INT)},
    {"Job", OBJECT("\"id\", \"kind\", \"state\", \"tags\", \"created\", \"started\", \"finished\", "
                   "\"position\", \"left_ms\", \"progress\", \"params\", \"artifacts\", "
                   "\"result\", \"error\"",
        "\"id\": {\"type\": \"string\", \"format\": \"uuid\"}, \"kind\": {\"enum\": [\"draw\", "
        "\"upscale\", \"see\", \"grid\", \"load\", \"unload\"]}, \"state\": {\"enum\": "
        "[\"queued\", \"running\", \"succeeded\", \"failed\", \"cancelled\"]}, \"title\": " TEXT
        ", \"tags\": " LIST(TEXT) ", \"owner\": " TEXT ", \"source\": " TEXT ", \"parent\": "
        MAYBE_TEXT ", \"priority\": " INT ", \"lane\": {\"enum\": [\"draw\", \"see\"]}, \"trace\": "
        MAYBE_TEXT ", \"deleted\": " MAYBE_INT ", \"attempt\": " INT ", \"model\": " TEXT
        ", \"seed\": " MAYBE_INT ", \"images\": " INT ", \"created\": " INT ", \"started\": "
        MAYBE_INT ", \"finished\": " MAYBE_INT ", \"position\": " MAYBE_INT ", \"left_ms\": "
        MAYBE_INT ", \"progress\": {\"anyOf\": [" REF("Progress") ", {\"type\": \"null\"}]}, "
        "\"params\": {\"type\": [\"object\", \"null\"]}, \"artifacts\": " LIST(REF("Artifact"))
        ", \"result\": {\"type\": [\"object\", \"null\"]}, \"error\": {\"type\": [\"object\", "
        "\"null\"]}")},
    {"JobAnswer", OBJECT("\"job\"", "\"job\": " REF("Job"))},
    {"JobList", OBJECT("\"data\", \"next\"",
                       "\"data\": " LIST(REF("Job")) ", \"next\": " MAYBE_TEXT)},
    {"Upscale", "{\"type\": \"object\", \"additionalProperties\": false, \"required\": "
        "[\"image\"], \"properties\": {\"image\": " TEXT ", \"upscaler\": " TEXT
        ", \"upscale\": {\"type\": \"number\", \"minimum\": 1, \"maximum\": 8}, \"format\": " TEXT
        ", \"quality\": " INT ", \"lossless\": " BOOL ", \"compression\": " INT ", \"metadata\": "
        BOOL ", \"job\": " REF("JobOptions") "}}"},
    {"Grid", OBJECT("\"params\", \"axes\"",
        "\"params\": {\"type\": \"object\"}, \"axes\": {\"type\": \"array\", \"minItems\": 1, "
        "\"maxItems\": 3, \"items\": " OBJECT("\"parameter\", \"values\"",
        "\"parameter\": " TEXT ", \"values\": {\"type\": \"array\"}, \"search\": " TEXT) "}, \"sheet\": " BOOL
        ", \"job\": " REF("JobOptions"))},
    {"Check", OBJECT("\"ok\", \"images\", \"seconds\", \"memory\"",
        "\"ok\": {\"const\": true}, \"images\": " INT ", \"seconds\": {\"type\": [\"number\", "
        "\"null\"]}, \"memory\": {\"anyOf\": [" OBJECT("\"model\", \"work\", \"fits\"",
        "\"model\": " INT ", \"work\": " INT ", \"fits\": " BOOL) ", {\"type\": \"null\"}]}, "
        "\"params\": {\"type\": \"object\"}")},
    {"JobChange", "{\"type\": \"object\", \"additionalProperties\": false, \"minProperties\": 1, "
        "\"properties\": {\"tags\": {\"type\": \"array\", \"maxItems\": 16, \"items\": "
        "{\"type\": \"string\", \"maxLength\": 64}}, \"priority\": {\"type\": \"integer\", "
        "\"minimum\": -100, \"maximum\": 100}, \"position\": {\"type\": \"integer\", "
        "\"minimum\": 0}}}"},
    {"Text", OBJECT("\"text\"", "\"text\": " TEXT ", \"model\": " TEXT)},
    {"Key", OBJECT("\"key\"", "\"key\": " TEXT)},
    {"KeyMake", "{\"type\": \"object\", \"additionalProperties\": false, \"required\": "
        "[\"owner\", \"scope\"], \"properties\": {\"owner\": {\"type\": \"string\", \"maxLength\": "
        "64}, \"scope\": {\"enum\": [\"read\", \"infer\", \"admin\"]}, \"days\": {\"type\": "
        "\"integer\", \"minimum\": 0, \"maximum\": 3650}}}"},
    {"KeyList", OBJECT("\"data\"", "\"data\": " LIST(OBJECT("\"id\", \"owner\", \"scope\", "
        "\"created\", \"expires\", \"own\"", "\"id\": " TEXT ", \"owner\": " TEXT ", \"scope\": "
        "{\"enum\": [\"read\", \"infer\", \"admin\"]}, \"created\": " INT ", \"expires\": "
        MAYBE_INT ", \"own\": " BOOL)) ", \"next\": " MAYBE_TEXT)},
    {"ModelName", OBJECT("", "\"model\": " TEXT)},
    {"Model", OBJECT("\"id\", \"object\", \"created\", \"owned_by\", \"kind\"",
        "\"id\": " TEXT ", \"object\": {\"const\": \"model\"}, \"created\": " INT
        ", \"owned_by\": " TEXT ", \"kind\": {\"enum\": [\"draw\", \"see\"]}, \"family\": " TEXT
        ", \"title\": " TEXT ", \"license\": " MAYBE_TEXT ", \"license_from\": " MAYBE_TEXT
        ", \"supported\": " BOOL ", \"bundled\": " BOOL
        ", \"default\": " BOOL ", \"loaded\": " BOOL ", \"memory\": " INT ", \"bytes\": " INT ", \"need\": " INT
        ", \"fits\": {\"enum\": [\"now\", \"after_unload\", \"no\"]}")},
    {"Advice", OBJECT("\"params\"", "\"params\": {\"type\": \"object\"}")},
    {"ModelList", OBJECT("\"object\", \"data\"",
        "\"object\": {\"const\": \"list\"}, \"data\": " LIST(REF("Model")) ", \"next\": "
        MAYBE_TEXT)},
    {"ChoiceList", OBJECT("\"data\"", "\"data\": " LIST(OBJECT("\"name\", \"aliases\", \"help\"",
        "\"name\": " TEXT ", \"aliases\": " LIST(TEXT) ", \"help\": " TEXT)) ", \"next\": "
        MAYBE_TEXT)},
    {"LogList", OBJECT("\"data\"", "\"data\": " LIST(OBJECT("\"id\", \"time\", \"level\", \"message\", "
        "\"fields\"", "\"id\": " TEXT ", \"time\": " INT ", \"level\": {\"enum\": [\"debug\", \"info\", "
        "\"warn\", \"error\"]}, \"message\": " TEXT ", \"fields\": {\"type\": \"object\", "
        "\"additionalProperties\": " TEXT "}")) ", \"next\": " MAYBE_TEXT)},
    {"WildcardList", OBJECT("\"data\"", "\"data\": " LIST(OBJECT("\"name\", \"lines\", \"modified\"",
        "\"name\": " TEXT ", \"lines\": " MAYBE_INT ", \"modified\": " INT)) ", \"next\": "
        MAYBE_TEXT)},
    {"ParamList", OBJECT("\"groups\", \"data\"", "\"groups\": " LIST(TEXT) ", \"data\": "
        LIST(OBJECT("\"name\", \"type\", \"group\", \"help\"",
        "\"name\": " TEXT ", \"type\": " TEXT ", \"group\": " TEXT ", \"help\": " TEXT))
        ", \"next\": " MAYBE_TEXT)},
    {0, 0},
};
/* clang-format on */
