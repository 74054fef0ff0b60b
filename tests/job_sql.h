/* SPDX-License-Identifier: MIT */
/* For tests that look into the database and the folders of a queue behind its back. */
#ifndef LIMN_TESTS_JOB_SQL_H
#define LIMN_TESTS_JOB_SQL_H

#include <dirent.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "job_fixture.h"

/* <dir>/<name>; freed with free. */
static inline char *path_in(const char *dir, const char *name) {
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    sprintf(path, "%s/%s", dir, name);
    return path;
}

static inline void run_sql(const char *path, const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* The number that a query answers. */
static inline int64_t ask_sql(const char *path, const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

/* The same of the jobs of a folder. */
static inline int64_t ask_dir(const char *dir, const char *sql) {
    char *path = path_in(dir, "jobs.db");
    int64_t n = ask_sql(path, sql);
    free(path);
    return n;
}

/* Files below <dir>/<sub>. */
static inline int count_files(const char *dir, const char *sub) {
    char *path = path_in(dir, sub);
    int n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        struct stat sb;
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &sb, 0) != 0) continue;
        n += S_ISDIR(sb.st_mode) ? count_files(path, e->d_name) : 1;
    }
    closedir(d);
    free(path);
    return n;
}

/* Small pictures get their files a moment after the end of their job. */
static inline void wait_files(const char *dir, int want) {
    for (int i = 0; i < 6000 && count_files(dir, "blobs") != want; i++) sleep_ms(10);
    assert_int_equal(count_files(dir, "blobs"), want);
}

#endif
