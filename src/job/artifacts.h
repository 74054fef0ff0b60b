/* SPDX-License-Identifier: MIT */
/*
 * Files of jobs, named by what is in them: <dir>/blobs/ab/abcd...(SHA-256). A file appears under
 * its name only when it is complete and on the disk (hidden temporary, fsync, rename, fsync of the
 * folder); the same bytes are kept once. Beside them <dir>/thumbs/ has a WebP of at most 256 pixels
 * for every picture; a lost thumbnail is made again when somebody asks for it.
 *
 * Small files of jobs may come later (limn_artifacts_put_later): until then their bytes are in
 * memory under a pin, a row of the store has them on the disk, and reading finds them as if they
 * had a file.
 *
 * Which job refers to which file is in the store (store.h). A file between "written" and "its row
 * is committed" is pinned here, so that nothing removes it; what is neither pinned nor referred to
 * is an orphan, and sweeps remove it. Any thread may call; reading needs no lock.
 */
#ifndef LIMN_JOB_ARTIFACTS_H
#define LIMN_JOB_ARTIFACTS_H

#include "job/job.h"

enum { LIMN_THUMB_SIDE = 256, LIMN_ARTIFACT_SMALL = 65536 };
#define LIMN_ARTIFACT_BYTES_MAX ((int64_t)256 << 20)

typedef struct limn_artifacts limn_artifacts;

/* Makes the folders when they are not there. E_IO. */
limn_status limn_artifacts_open(limn_artifacts **out, const char *dir, limn_err *err);
void limn_artifacts_close(limn_artifacts **a);
/* Makes the folders that files will lie in, once for a new place, so that no job pays for its own.
 * Any thread; what cannot be made is tried again with the file that needs it. */
void limn_artifacts_prepare(limn_artifacts *a);

/* Keeps bytes; fills sha, bytes, mime (sniffed: pictures, clips and documents that media/ reads,
 * else application/octet-stream) and, of these, width and height of the first picture (of a PDF in
 * points). The file is pinned once more until limn_artifacts_unpin. `image` is the decoded picture
 * when the caller has it (and makes the thumbnail with limn_artifacts_keep_thumb), else NULL: then
 * the thumbnail is made here. E_FORMAT: a picture that cannot be
 * read; E_LIMIT; E_UNAVAILABLE when the disk is full or failing. */
limn_status limn_artifacts_put(limn_artifacts *a, limn_artifact *out, const void *data, size_t size,
                               const limn_image *image, limn_err *err);
/* The same, but up to LIMN_ARTIFACT_SMALL bytes may stay in memory for as long as they are pinned:
 * then *later is true, and the caller keeps them on the disk otherwise (store.h, keep) until
 * limn_artifacts_file has answered LIMN_OK. */
limn_status limn_artifacts_put_later(limn_artifacts *a, limn_artifact *out, const void *data,
                                     size_t size, const limn_image *image, bool *later,
                                     limn_err *err);
/* Pins bytes that another process kept so, and holds them the same way (or makes their file at
 * once when too many are held). E_FORMAT: they are not what their name says. */
limn_status limn_artifacts_hold(limn_artifacts *a, const char *sha, const void *data, size_t size,
                                limn_err *err);
/* Makes the file of bytes that are in memory; it is on the disk when this answers LIMN_OK. What has
 * a file is left alone. */
limn_status limn_artifacts_file(limn_artifacts *a, const char *sha, limn_err *err);
/* false: malformed, or no memory. */
bool limn_artifacts_pin(limn_artifacts *a, const char *sha);
void limn_artifacts_unpin(limn_artifacts *a, const char *sha);

/* Path of the file (whether it is there or not; limn_artifacts_file makes sure): "" for a malformed
 * name. */
void limn_artifacts_path(const limn_artifacts *a, char *out, size_t size, const char *sha);
/* An open file for reading, O_CLOEXEC; the caller closes it. E_NOT_FOUND. */
limn_status limn_artifacts_open_fd(limn_artifacts *a, int *fd, int64_t *bytes, const char *sha,
                                   limn_err *err);
/* The bytes; freed with limn_mem_free. */
limn_status limn_artifacts_read(limn_artifacts *a, void **data, size_t *size, const char *sha,
                                limn_err *err);
/* WebP bytes of the thumbnail, made now if it was lost. E_UNSUPPORTED: nothing that can be
 * shown. */
limn_status limn_artifacts_thumb(limn_artifacts *a, void **data, size_t *size, const char *sha,
                                 limn_err *err);

/* What a thumbnail shows of a picture, RGB, at most LIMN_THUMB_SIDE a side. */
limn_status limn_artifacts_shrink(limn_image **out, const limn_image *image, limn_err *err);
/* Makes the thumbnail from the picture, which may be small already. It is made again when it is
 * asked for, so nothing is lost if this fails. */
void limn_artifacts_keep_thumb(limn_artifacts *a, const char *sha, const limn_image *image);

/* Removes the file and its thumbnail unless it is pinned; true when it is gone. Only for the thread
 * that commits rows, which has just seen that none refers to it: then no row can appear in between
 * (who is about to commit one holds a pin). */
bool limn_artifacts_remove(limn_artifacts *a, const char *sha);
/* Removes every file for which `used` answers false, and temporaries of other processes; the same
 * thread. *removed: how many files. */
void limn_artifacts_sweep(limn_artifacts *a, bool (*used)(void *user, const char *sha), void *user,
                          int64_t *removed);
/* Bytes of all files, thumbnails not counted, as of the last sweep and what came since. */
int64_t limn_artifacts_bytes(const limn_artifacts *a);

/* SHA-256 in hex of some bytes. */
void limn_sha_make(char out[LIMN_SHA_LEN + 1], const void *data, size_t size);

#endif
