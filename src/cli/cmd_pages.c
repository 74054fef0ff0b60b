/* SPDX-License-Identifier: MIT */
/*
 * limn manual and limn completion: the manual page (mdoc) and what shells complete, written from
 * the command list and the parameter tables, so that they cannot say anything else than the
 * program.
 */
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

/* A backslash begins an escape in mdoc, a dot or quote at the start of a line a macro. */
static void put_roff(const char *text) {
    if (*text == '.' || *text == '\'') fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
    }
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
    fputs(".\n", stdout);
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
    puts(
        ".Sh DESCRIPTION\n.Nm\ndraws pictures with diffusion models and sees with Qwen3-VL, on the "
        "machine you have.\n.Sh COMMANDS\n.Bl -tag -width Ds");
    for (int i = 0; i < n; i++) {
        printf(".It Ic %s\n", commands[i].name);
        put_roff(commands[i].help);
        puts(".");
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

static void put_words(const cli_command *cmd, const char *before, const char *between) {
    limn_params_kind kinds[2];
    limn_param_info p;
    char name[64];
    int n = kinds_of(kinds, cmd);
    for (int k = 0; k < n; k++)
        for (int i = 0; limn_params_info(&p, kinds[k], i); i++)
            if (p.cli) printf("%s%s%s", before, option_name(&p, name), between);
}

static void put_bash(const cli_command *commands, int n) {
    puts("# bash completion for limn; made by limn completion bash\n_limn() {\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} words");
    fputs("    if [ \"$COMP_CWORD\" = 1 ]; then words=\"", stdout);
    for (int i = 0; i < n; i++) printf("%s ", commands[i].name);
    puts("\"; else case ${COMP_WORDS[1]} in");
    for (int i = 0; i < n; i++) {
        printf("        %s) words=\"", commands[i].name);
        put_words(&commands[i], "--", " ");
        puts("\" ;;");
    }
    puts("    esac; fi\n    case $word in\n"
         "        -*) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
         "        *) if [ \"$COMP_CWORD\" = 1 ]; then "
         "COMPREPLY=($(compgen -W \"$words\" -- \"$word\")); "
         "else COMPREPLY=($(compgen -f -- \"$word\")); fi ;;\n"
         "    esac\n}\ncomplete -o filenames -F _limn limn");
}

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

static void put_zsh(const cli_command *commands, int n) {
    limn_params_kind kinds[2];
    limn_param_info p;
    char name[64];
    puts("#compdef limn\n# made by limn completion zsh\nlocal -a commands options\ncommands=(");
    for (int i = 0; i < n; i++) {
        printf("    $'%s:", commands[i].name);
        put_quoted(commands[i].help);
        puts("'");
    }
    puts(
        ")\nif (( CURRENT == 2 )); then _describe command commands; return; fi\ncase $words[2] in");
    for (int i = 0; i < n; i++) {
        printf("    %s) options=(\n", commands[i].name);
        int m = kinds_of(kinds, &commands[i]);
        for (int k = 0; k < m; k++)
            for (int j = 0; limn_params_info(&p, kinds[k], j); j++) {
                if (!p.cli) continue;
                printf("        $'--%s[", option_name(&p, name));
                put_quoted(p.help);
                puts(p.type == LIMN_TYPE_BOOL ? "]'" : "]:value:_files'");
            }
        puts("    ) ;;");
    }
    puts("esac\n_arguments -s $options '*:file:_files'");
}

static void put_fish(const cli_command *commands, int n) {
    limn_params_kind kinds[2];
    limn_param_info p;
    char name[64];
    puts("# made by limn completion fish");
    for (int i = 0; i < n; i++) {
        printf("complete -c limn -n __fish_use_subcommand -f -a %s -d '", commands[i].name);
        for (const char *t = commands[i].help; *t; t++) printf(*t == '\'' ? "\\'" : "%c", *t);
        puts("'");
        int m = kinds_of(kinds, &commands[i]);
        for (int k = 0; k < m; k++)
            for (int j = 0; limn_params_info(&p, kinds[k], j); j++) {
                if (!p.cli) continue;
                printf("complete -c limn -n '__fish_seen_subcommand_from %s' -l %s %s-d '",
                       commands[i].name, option_name(&p, name),
                       p.type == LIMN_TYPE_BOOL ? "" : "-r ");
                for (const char *t = p.help; *t; t++) printf(*t == '\'' ? "\\'" : "%c", *t);
                puts("'");
            }
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
