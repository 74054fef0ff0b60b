/* SPDX-License-Identifier: MIT */
/* Prints docs/PARAMETERS.md, which limn_params_markdown makes from the parameter tables. */
#include <stdio.h>

#include "limn.h"

int main(void) {
    limn_err err = {0};
    char *text;
    if (limn_params_markdown(&text, &err) != LIMN_OK) {
        fprintf(stderr, "params_doc: %s\n", err.text);
        return 1;
    }
    fputs(text, stdout);
    limn_text_free(&text);
    return 0;
}
