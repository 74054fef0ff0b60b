/* SPDX-License-Identifier: MIT */
/*
 * limn manual and limn completion: the manual page (mdoc) and what shells complete, written from
 * the command list and the parameter tables, so that they cannot say anything else than the
 * program.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* Options of a command: its own kind, then those of every command. */
static int kinds_of(limn_params_kind out[2], const cli_command *cmd) {
    int n = 0;
    if (cmd->kind != LIMN_PARAMS_APP) out[n++] = cmd->kind;
    out[n++] = LIMN_PARAMS_APP;
    return n;
}

/* The long option as people write it. */
static const char *option_name(const limn_param_info *p, char buf[64]) {
    snprintf(buf, 64, "%s", p->cli);
    for (char *c = buf; *c; c++)
        if (*c == '_') *c = '-';
    return buf;
}

/* ---- the manual ---- */

static const char *const titles[LIMN_PARAMS_KINDS] = {
    [LIMN_PARAMS_GEN] = "OPTIONS FOR DRAWING",
    [LIMN_PARAMS_SEE] = "OPTIONS FOR SEEING",
    [LIMN_PARAMS_SERVE] = "OPTIONS FOR SERVING",
    [LIMN_PARAMS_APP] = "OPTIONS OF EVERY COMMAND",
};

/* One sentence, in short lines. A backslash begins an escape in mdoc, a dot or quote at the start
 * of a line a macro. */
static void put_roff(const char *text) {
    int column = 0;
    for (const char *end; *text; text = end + strspn(end, " ")) {
        end = text + strcspn(text, " ");
        if (column > 0 && column + (end - text) > 76) {
            putchar('\n');
            column = 0;
        }
        if (column > 0)
            putchar(' ');
        else if (*text == '.' || *text == '\'')
            fputs("\\&", stdout);
        column += (int)(end - text) + 1;
        for (; text < end; text++) printf(*text == '\\' ? "\\e" : "%c", *text);
    }
    puts(".");
}

static void put_option(const limn_param_info *p) {
    bool flag = p->type == LIMN_TYPE_BOOL;
    char name[64];
    if (!p->cli) return;
    fputs(".It", stdout);
    if (p->cli_short) printf(" Fl %c ,", p->cli_short);
    printf(" Fl \\&-%s", option_name(p, name));
    if (!flag)
        printf(" Ar %s", p->type == LIMN_TYPE_TEXT || p->type == LIMN_TYPE_LIST ? "text"
                         : p->type == LIMN_TYPE_ENUM                            ? "word"
                                                                                : "number");
    putchar('\n');
    put_roff(p->help);
}

static void put_options(limn_params_kind kind) {
    limn_param_info p;
    const char *group = "";
    printf(".Sh %s\n", titles[kind]);
    for (int i = 0; limn_params_info(&p, kind, i); i++) {
        if (strcmp(group, p.group) != 0) {
            if (*group) puts(".El");
            printf(".Ss %s\n.Bl -tag -width Ds\n", p.group);
            group = p.group;
        }
        put_option(&p);
    }
    if (*group) puts(".El");
}

static void put_exit_status(void) {
    static const limn_status rows[] = {
#define X(id, num, text, http, code, retry) LIMN_##id,
        LIMN_STATUS_LIST(X)
#undef X
    };
    puts(".Sh EXIT STATUS\n.Bl -tag -width Ds");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i] != LIMN_E_VALUE) /* the same code as a bad command line */
            printf(".It %d\n%s\n", limn_status_exit(rows[i]), limn_status_text(rows[i]));
    puts(".El");
}

limn_status cmd_manual(cli *c, limn_err *err) {
    int n;
    const cli_command *commands = cli_commands(&n);
    (void)c;
    (void)err;
    puts(".Dd $Mdocdate$\n.Dt LIMN 1\n.Os\n.Sh NAME\n.Nm limn\n"
         ".Nd draw pictures, and answer questions about pictures\n.Sh SYNOPSIS");
    for (int i = 0; i < n; i++) {
        printf(".Nm limn %s\n.Op Ar options\n", commands[i].name);
        if (*commands[i].args) printf(".Ar \"%s\"\n", commands[i].args);
    }
    puts(".Sh DESCRIPTION\n.Nm\ndraws pictures with diffusion models and sees with Qwen3-VL,\non "
         "the "
         "machine you have.\n.Sh COMMANDS\n.Bl -tag -width Ds");
    for (int i = 0; i < n; i++) {
        printf(".It Ic %s\n", commands[i].name);
        put_roff(commands[i].help);
    }
    puts(".El");
    const limn_params_kind order[] = {LIMN_PARAMS_GEN, LIMN_PARAMS_SEE, LIMN_PARAMS_SERVE,
                                      LIMN_PARAMS_APP};
    for (int i = 0; i < 4; i++) put_options(order[i]);
    puts(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev LIMN_MODELS\nThe models folder.\n"
         ".It Ev LIMN_SERVE_NAME\nAny option for serving, in capitals with underscores: "
         "LIMN_SERVE_PORT.\n.It Ev LIMN_NAME\nFor\n.Ic serve ,\nany option of every command: "
         "LIMN_THREADS.\n.El");
    put_exit_status();
    return LIMN_OK;
}

/* ---- completion ---- */
typedef void option_fn(const cli_command *cmd, const limn_param_info *p, limn_params_kind kind,
                       int index);

static void each_option(const cli_command *cmd, option_fn *visit) {
    limn_params_kind kinds[2];
    limn_param_info p;
    int n = kinds_of(kinds, cmd);
    for (int k = 0; k < n; k++)
        for (int i = 0; limn_params_info(&p, kinds[k], i); i++)
            if (p.cli) visit(cmd, &p, kinds[k], i);
}

/* The n-th value that can be named, as one word: names match whatever their case and gaps. */
static bool value_word(char out[64], const limn_param_info *p, limn_params_kind kind, int index,
                       int n) {
    limn_choice c;
    if (p->list ? !limn_engine_choice(&c, p->list, n) : !limn_params_word(&c, kind, index, n))
        return false;
    snprintf(out, 64, "%s", c.name);
    for (char *t = out; *t; t++) *t = *t == ' ' ? '_' : (char)tolower((unsigned char)*t);
    return true;
}

static void put_values(const limn_param_info *p, limn_params_kind kind, int index) {
    char word[64];
    for (int n = 0; value_word(word, p, kind, index, n); n++) printf("%s%s", n ? " " : "", word);
}

typedef enum value_kind { VALUE_NONE, VALUE_WORDS, VALUE_NUMBER, VALUE_FILE } value_kind;

static value_kind value_of(const limn_param_info *p, limn_params_kind kind, int index) {
    char word[64];
    if (p->type == LIMN_TYPE_BOOL) return VALUE_NONE;
    if (value_word(word, p, kind, index, 0)) return VALUE_WORDS;
    return p->type == LIMN_TYPE_TEXT || p->type == LIMN_TYPE_LIST ? VALUE_FILE : VALUE_NUMBER;
}

/* What may stand right after the command, from its usage line: its words in lower case. */
static void put_first_words(const cli_command *cmd) {
    bool begin = true;
    for (const char *t = cmd->args; *t; t++) {
        if (begin && islower((unsigned char)*t)) {
            size_t n = strcspn(t, " |]");
            printf("%.*s ", (int)n, t);
            t += n - 1;
        }
        begin = *t == '|' || *t == '[' || (begin && *t == ' ');
    }
}

static bool has_first_words(const cli_command *cmd) {
    return islower((unsigned char)cmd->args[cmd->args[0] == '[']) != 0;
}

/* ---- bash ---- */
static void bash_name(const cli_command *cmd, const limn_param_info *p, limn_params_kind kind,
                      int index) {
    char name[64];
    printf("--%s ", option_name(p, name));
    if (p->type == LIMN_TYPE_BOOL) printf("--no-%s ", name);
}

/* What comes after an option that takes a value: words, nothing, or (no words) files. */
static void bash_value(const cli_command *cmd, const limn_param_info *p, limn_params_kind kind,
                       int index) {
    value_kind v = value_of(p, kind, index);
    char name[64];
    if (v == VALUE_NONE) return;
    fputs("            ", stdout);
    if (p->cli_short) printf("-%c | ", p->cli_short);
    printf("--%s) ", option_name(p, name));
    if (v == VALUE_WORDS) {
        fputs("words=\"", stdout);
        put_values(p, kind, index);
        fputs("\" ", stdout);
    }
    puts(v == VALUE_NUMBER ? "return ;;" : ";;");
}

static void put_bash(const cli_command *commands, int n) {
    puts("# bash completion for limn; made by limn completion bash\n"
         "_limn() {\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=\n"
         "    if [ \"$COMP_CWORD\" = 1 ]; then");
    fputs("        COMPREPLY=($(compgen -W \"", stdout);
    for (int i = 0; i < n; i++) printf("%s ", commands[i].name);
    puts("\" -- \"$word\"))\n        return\n    fi\n"
         "    # --name=value comes as three words\n"
         "    if [ \"$word\" = = ]; then\n"
         "        word=\n"
         "    elif [ \"$before\" = = ]; then\n"
         "        before=${COMP_WORDS[COMP_CWORD - 2]}\n"
         "    fi\n"
         "    case ${COMP_WORDS[1]} in");
    for (int i = 0; i < n; i++) {
        printf("    %s)\n        case $before in\n", commands[i].name);
        if (has_first_words(&commands[i])) {
            printf("            %s) words=\"", commands[i].name);
            put_first_words(&commands[i]);
            puts("\" ;;");
        }
        each_option(&commands[i], bash_value);
        fputs("            *) case $word in -*) words=\"", stdout);
        each_option(&commands[i], bash_name);
        puts("\" ;; esac ;;\n        esac ;;");
    }
    puts("    esac\n"
         "    if [ -n \"$words\" ]; then\n"
         "        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "    else\n"
         "        compopt -o filenames 2>/dev/null\n"
         "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
         "    fi\n"
         "}\n"
         "complete -F _limn limn");
}

/* ---- zsh ---- */
/* 'text' of zsh and fish: a quote ends it, a colon or bracket means something in zsh. */
static void put_quoted(const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("\\'", stdout);
        else if (strchr(":[]", *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_option(const limn_param_info *p, const char *option, limn_params_kind kind,
                       int index) {
    value_kind v = value_of(p, kind, index);
    printf("            $'%s%s[", p->type == LIMN_TYPE_LIST ? "*" : "", option);
    put_quoted(p->help);
    putchar(']');
    if (v == VALUE_FILE) fputs(":value:_files", stdout);
    if (v == VALUE_NUMBER) fputs(":number: ", stdout);
    if (v == VALUE_WORDS) {
        fputs(":word:(", stdout);
        put_values(p, kind, index);
        putchar(')');
    }
    puts("'");
}

static void zsh_names(const cli_command *cmd, const limn_param_info *p, limn_params_kind kind,
                      int index) {
    char name[64], option[80] = {'-', p->cli_short};
    if (p->cli_short) zsh_option(p, option, kind, index);
    option_name(p, name);
    snprintf(option, sizeof option, "--%s", name);
    zsh_option(p, option, kind, index);
    if (p->type != LIMN_TYPE_BOOL) return;
    snprintf(option, sizeof option, "--no-%s", name);
    zsh_option(p, option, kind, index);
}

static void put_zsh(const cli_command *commands, int n) {
    puts("#compdef limn\n# made by limn completion zsh\n_limn() {\n    local -a commands options\n"
         "    commands=(");
    for (int i = 0; i < n; i++) {
        printf("        $'%s:", commands[i].name);
        put_quoted(commands[i].help);
        puts("'");
    }
    puts("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n"
         "        return\n    fi\n    case $words[2] in");
    for (int i = 0; i < n; i++) {
        printf("        %s) options=(\n", commands[i].name);
        if (has_first_words(&commands[i])) {
            fputs("            '2:what:(", stdout);
            put_first_words(&commands[i]);
            puts(")'");
        }
        each_option(&commands[i], zsh_names);
        puts("        ) ;;");
    }
    /* written into a folder of fpath, or read by a start file */
    puts("    esac\n    _arguments -s $options '*:file:_files'\n}\n"
         "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    _limn \"$@\"\nelse\n"
         "    compdef _limn limn\nfi");
}

/* ---- fish ---- */
static void put_single(const char *text) {
    for (; *text; text++) printf(strchr("'\\", *text) ? "\\%c" : "%c", *text);
}

static void fish_option(const cli_command *cmd, const limn_param_info *p, limn_params_kind kind,
                        int index) {
    value_kind v = value_of(p, kind, index);
    char name[64];
    option_name(p, name);
    printf("complete -c limn -n '__fish_seen_subcommand_from %s' -l %s ", cmd->name, name);
    if (p->cli_short) printf("-s %c ", p->cli_short);
    if (v == VALUE_FILE) fputs("-r -F ", stdout);
    if (v == VALUE_NUMBER) fputs("-x ", stdout);
    if (v == VALUE_WORDS) {
        fputs("-x -a '", stdout);
        put_values(p, kind, index);
        fputs("' ", stdout);
    }
    fputs("-d '", stdout);
    put_single(p->help);
    puts("'");
    if (p->type == LIMN_TYPE_BOOL)
        printf("complete -c limn -n '__fish_seen_subcommand_from %s' -l no-%s\n", cmd->name, name);
}

static void put_fish(const cli_command *commands, int n) {
    puts("# made by limn completion fish");
    for (int i = 0; i < n; i++) {
        printf("complete -c limn -n __fish_use_subcommand -f -a %s -d '", commands[i].name);
        put_single(commands[i].help);
        puts("'");
        if (has_first_words(&commands[i])) {
            printf("complete -c limn -n '__fish_seen_subcommand_from %s' -f -a '",
                   commands[i].name);
            put_first_words(&commands[i]);
            puts("'");
        }
        each_option(&commands[i], fish_option);
    }
}

limn_status cmd_completion(cli *c, limn_err *err) {
    static const struct {
        const char *shell;
        void (*put)(const cli_command *commands, int n);
    } rows[] = {{"bash", put_bash}, {"zsh", put_zsh}, {"fish", put_fish}};
    int n;
    const cli_command *commands = cli_commands(&n);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].shell, c->args[0]) != 0) continue;
        rows[i].put(commands, n);
        return LIMN_OK;
    }
    return cli_fail(err, LIMN_E_USAGE, "completion knows bash, zsh and fish, not \"%.40s\"",
                    c->args[0]);
}
