/* SPDX-License-Identifier: MIT */
/*
 * The tasks. Prompts are those that Qwen3-VL was shown with (QwenLM/Qwen3-VL cookbooks:
 * 2d_grounding, ocr, document_parsing, omni_recognition, video_understanding); docs/TASKS.md is
 * written from here.
 */
#include <string.h>

#include "pipeline/task.h"

#define NUMBER "{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000}"
#define BOX "{\"type\":\"array\",\"items\":" NUMBER ",\"minItems\":4,\"maxItems\":4}"
#define POINT "{\"type\":\"array\",\"items\":" NUMBER ",\"minItems\":2,\"maxItems\":2}"
#define SECONDS "{\"type\":\"number\",\"minimum\":0,\"maximum\":99999}"
#define TEXT(n) "{\"type\":\"string\",\"maxLength\":" #n "}"
#define ROWS(properties, required)                                                                 \
    "{\"type\":\"array\",\"maxItems\":256,\"items\":{\"type\":\"object\",\"properties\":"          \
    "{" properties "},\"required\":[" required "],\"additionalProperties\":false}}"

const limn_task limn_tasks[] = {
    {"ask",
     "answer a question",
     LIMN_TASK_TOGETHER,
     LIMN_WORDS_NEEDED,
     0,
     {{.format = LIMN_SEEING_FORMAT_TEXT, .prompt = "", .answer = LIMN_ANSWER_TEXT},
      {.format = LIMN_SEEING_FORMAT_JSON, .prompt = "", .answer = LIMN_ANSWER_DATA}},
     0},
    {"caption",
     "describe each picture",
     LIMN_TASK_EACH,
     LIMN_WORDS_MAY,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Describe this image.",
       .answer = LIMN_ANSWER_TEXT}},
     1024},
    {"classify",
     "choose one label for each picture, with the probability of every label",
     LIMN_TASK_EACH,
     LIMN_WORDS_LABELS,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Classify the picture as one of: {labels}.",
       .open = "What is in the picture?",
       .answer = LIMN_ANSWER_LABEL},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_LABEL},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_LABEL}},
     64},
    {"tag",
     "say which of the labels fit each picture, or find tags freely",
     LIMN_TASK_EACH,
     LIMN_WORDS_LABELS,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Is there {label} in the picture?",
       .open = "Name everything in the picture.",
       .answer = LIMN_ANSWER_TAGS},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_TAGS},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_TAGS}},
     512},
    {"ocr",
     "read the text; as JSON or CSV line by line with boxes",
     LIMN_TASK_EACH,
     LIMN_WORDS_NONE,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Read all the text in the image.",
       .answer = LIMN_ANSWER_TEXT},
      {.format = LIMN_SEEING_FORMAT_JSON,
       .prompt = "Spot all the text in the image with line-level, and output in JSON format.",
       .answer = LIMN_ANSWER_ROWS,
       .schema =
           ROWS("\"bbox_2d\":" BOX ",\"text_content\":" TEXT(512), "\"bbox_2d\",\"text_content\"")},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_ROWS}},
     0},
    {"document",
     "turn pages into Markdown, HTML with boxes, JSON, or their tables into CSV",
     LIMN_TASK_EACH,
     LIMN_WORDS_NONE,
     1,
     {{.format = LIMN_SEEING_FORMAT_MARKDOWN,
       .prompt = "qwenvl markdown",
       .answer = LIMN_ANSWER_TEXT},
      {.format = LIMN_SEEING_FORMAT_HTML, .prompt = "qwenvl html", .answer = LIMN_ANSWER_TEXT},
      {.format = LIMN_SEEING_FORMAT_JSON,
       .prompt = "Convert the table to JSON.",
       .answer = LIMN_ANSWER_DATA},
      {.format = LIMN_SEEING_FORMAT_CSV,
       .prompt = "Convert the table to CSV.",
       .answer = LIMN_ANSWER_TEXT}},
     0},
    {"boxes",
     "locate things with boxes",
     LIMN_TASK_EACH,
     LIMN_WORDS_LABELS,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt =
           "Locate every instance that belongs to the following categories: {labels}. Report bbox "
           "coordinates in JSON format.",
       .open = "Locate all objects in the image. Report bbox coordinates in JSON format.",
       .answer = LIMN_ANSWER_ROWS,
       .schema = ROWS("\"bbox_2d\":" BOX ",\"label\":{label}", "\"bbox_2d\",\"label\"")},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_ROWS},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_ROWS}},
     8192},
    {"points",
     "locate things with points",
     LIMN_TASK_EACH,
     LIMN_WORDS_LABELS,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Point to every {labels}, report the points in JSON format.",
       .answer = LIMN_ANSWER_ROWS,
       .schema = ROWS("\"point_2d\":" POINT ",\"label\":{label}", "\"point_2d\",\"label\"")},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_ROWS},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_ROWS}},
     8192},
    {"compare",
     "say what is the same and what is different",
     LIMN_TASK_TOGETHER,
     LIMN_WORDS_MAY,
     2,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Compare the pictures: what is the same, and what is different?",
       .answer = LIMN_ANSWER_TEXT},
      {.format = LIMN_SEEING_FORMAT_JSON,
       .prompt =
           "Compare the pictures. Answer in JSON with the lists \"same\" and \"different\" and a "
           "\"summary\".",
       .answer = LIMN_ANSWER_DATA,
       .schema = "{\"type\":\"object\",\"properties\":{"
                 "\"same\":{\"type\":\"array\",\"maxItems\":32,\"items\":" TEXT(
                     300) "},"
                          "\"different\":{\"type\":\"array\",\"maxItems\":32,\"items\":" TEXT(
                              300) "},"
                                   "\"summary\":" TEXT(
                                       1000) "},\"required\":[\"same\",\"different\",\"summary\"],"
                                             "\"additionalProperties\":false}",
       .asked = "{question} Answer in JSON with the lists \"same\" and \"different\" and a "
                "\"summary\"."}},
     4096},
    {"video",
     "say what happens in a clip",
     LIMN_TASK_CLIP,
     LIMN_WORDS_MAY,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Describe the video.",
       .answer = LIMN_ANSWER_TEXT}},
     4096},
    {"events",
     "find events of a clip with start and end",
     LIMN_TASK_CLIP,
     LIMN_WORDS_MAY,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Locate the events with start and end in JSON format.",
       .answer = LIMN_ANSWER_ROWS,
       .schema = ROWS("\"start\":" SECONDS ",\"end\":" SECONDS ",\"description\":" TEXT(500),
                      "\"start\",\"end\",\"description\""),
       .asked = "{question} Answer in JSON with start, end and description."},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_ROWS},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_ROWS}},
     8192},
    {"follow",
     "follow a thing through a clip: its box at each time",
     LIMN_TASK_CLIP,
     LIMN_WORDS_LABELS,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt = "Follow the {labels} through the video. For every time that is shown report time, "
                 "bbox_2d "
                 "and label in JSON format.",
       .answer = LIMN_ANSWER_ROWS,
       .schema = ROWS("\"time\":" SECONDS ",\"bbox_2d\":" BOX ",\"label\":{label}",
                      "\"time\",\"bbox_2d\",\"label\"")},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_ROWS},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_ROWS}},
     16384},
    {"moderate",
     "check against the categories of a policy: scores, a box, a reason",
     LIMN_TASK_EACH,
     LIMN_WORDS_NONE,
     1,
     {{.format = LIMN_SEEING_FORMAT_TEXT,
       .prompt =
           "Moderate the picture. Categories: {labels}. Answer in JSON with category and bbox_2d.",
       .answer = LIMN_ANSWER_ROWS},
      {.format = LIMN_SEEING_FORMAT_JSON, .answer = LIMN_ANSWER_ROWS},
      {.format = LIMN_SEEING_FORMAT_CSV, .answer = LIMN_ANSWER_ROWS}},
     512},
    {"extract",
     "read named values, or fill a JSON Schema",
     LIMN_TASK_TOGETHER,
     LIMN_WORDS_KEYS,
     1,
     {{.format = LIMN_SEEING_FORMAT_JSON,
       .prompt = "Extract these values from the picture and answer in JSON: {keys}. Use null for a "
                 "value that "
                 "is not there.",
       .open = "Extract the values from the picture and answer in JSON.",
       .answer = LIMN_ANSWER_DATA}},
     8192},
};
const int limn_task_count = (int)(sizeof limn_tasks / sizeof limn_tasks[0]);

bool limn_task_choice(limn_choice *out, int index) {
    if (index < 0 || index >= limn_task_count) return false;
    *out = (limn_choice){.name = limn_tasks[index].name, .help = limn_tasks[index].help};
    return true;
}

const limn_task *limn_task_find(const char *name) {
    for (int i = 0; i < limn_task_count; i++)
        if (strcmp(limn_tasks[i].name, name) == 0) return &limn_tasks[i];
    return NULL;
}
