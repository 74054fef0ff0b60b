/* SPDX-License-Identifier: MIT */
/* Files named by their contents; see artifacts.h. */
#include "job/artifacts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "image/resample.h"
#include "media/media.h"

enum { PATH_BYTES = 4096 + 128, THUMB_QUALITY = 80, THUMB_DPI = 72, EBML_HEAD = 64 };
#define IN_MEMORY_MAX ((size_t)4 << 20) /* of small artifacts that have no file yet */
#define THUMB_PIXELS_MAX ((int64_t)128 << 20)

typedef struct pin {
    char sha[LIMN_SHA_LEN + 1];
    int count;
    void *data; /* [size] what has no file yet, for as long as the pin lasts; NULL: it has one */
    size_t size;
} pin;

struct limn_artifacts {
    char *dir;
    char token[17]; /* in the names of this process's temporaries */
    atomic_uint counter;
    atomic_llong bytes;
    pthread_mutex_t lock; /* of pins, of removing, and of making folders */
    pin *pins;
    int n_pins;
    size_t in_memory; /* bytes under pins */
};

void limn_sha_make(char out[LIMN_SHA_LEN + 1], const void *data, size_t size) {
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, data, size);
    sodium_bin2hex(out, LIMN_SHA_LEN + 1, hash, sizeof hash);
}

/* ---- opening ---- */
static limn_status make_folder(const char *dir, const char *sub, limn_err *err) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s%s%s", dir, sub[0] ? "/" : "", sub);
    if (n < 0 || (size_t)n >= sizeof path)
        return limn_fail(err, LIMN_E_LIMIT, "%s: the path is too long", dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return limn_fail(err, LIMN_E_IO, "%s: cannot be made: %s", path, strerror(errno));
    return LIMN_OK;
}

limn_status limn_artifacts_open(limn_artifacts **out, const char *dir, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    unsigned char random[8];
    limn_artifacts *a = limn_mem_calloc(1, sizeof *a);
    if (!a) return limn_fail(err, LIMN_E_NOMEM, "no memory for the artifacts");
    if (pthread_mutex_init(&a->lock, NULL) != 0) {
        limn_mem_free(a);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for the artifacts");
    }
    a->dir = limn_mem_strdup(dir);
    LIMN_CHECK(err, a->dir, LIMN_E_NOMEM, "no memory for the artifacts");
    LIMN_CHECK(err, sodium_init() >= 0, LIMN_E_INTERNAL, "libsodium does not start");
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(a->token, sizeof a->token, random, sizeof random);
    LIMN_TRY(make_folder(dir, "", err));
    LIMN_TRY(make_folder(dir, "blobs", err));
    LIMN_TRY(make_folder(dir, "thumbs", err));
    LIMN_TRY(make_folder(dir, "tmp", err));
    *out = a;
    return LIMN_OK;
out:
    limn_artifacts_close(&a);
    return st;
}

void limn_artifacts_close(limn_artifacts **artifacts) {
    limn_artifacts *a = artifacts ? *artifacts : NULL;
    if (!a) return;
    pthread_mutex_destroy(&a->lock);
    for (int i = 0; i < a->n_pins; i++) limn_mem_free(a->pins[i].data);
    limn_mem_free(a->pins);
    limn_mem_free(a->dir);
    limn_mem_free(a);
    *artifacts = NULL;
}

/* ---- names ---- */
static void blob_path(const limn_artifacts *a, char *out, const char *sha) {
    snprintf(out, PATH_BYTES, "%s/blobs/%.2s/%s", a->dir, sha, sha);
}

static void thumb_path(const limn_artifacts *a, char *out, const char *sha) {
    snprintf(out, PATH_BYTES, "%s/thumbs/%.2s/%s.webp", a->dir, sha, sha);
}

void limn_artifacts_path(const limn_artifacts *a, char *out, size_t size, const char *sha) {
    char path[PATH_BYTES] = "";
    if (limn_sha_is_valid(sha)) blob_path(a, path, sha);
    snprintf(out, size, "%s", path);
}

/* ---- pins ---- */
static pin *find_pin(limn_artifacts *a, const char *sha) {
    for (int i = 0; i < a->n_pins; i++)
        if (strcmp(a->pins[i].sha, sha) == 0) return &a->pins[i];
    return NULL;
}

/* Locked. A pin that cannot be noted for lack of memory would let its file be removed: false. */
static bool add_pin(limn_artifacts *a, const char *sha) {
    pin *p = find_pin(a, sha);
    if (!p) {
        pin *grown = limn_mem_realloc(a->pins, ((size_t)a->n_pins + 1) * sizeof *grown);
        if (!grown) return false;
        a->pins = grown;
        p = &grown[a->n_pins++];
        *p = (pin){0};
        memcpy(p->sha, sha, LIMN_SHA_LEN);
    }
    p->count++;
    return true;
}

/* Gives the bytes to the pin; false: there is no room or memory for them. */
static bool hold_bytes(limn_artifacts *a, const char *sha, const void *data, size_t size) {
    if (size > LIMN_ARTIFACT_SMALL) return false;
    pthread_mutex_lock(&a->lock);
    pin *p = find_pin(a, sha);
    bool held = p->data != NULL;
    if (!held && a->in_memory + size <= IN_MEMORY_MAX && (p->data = limn_mem_alloc(size))) {
        memcpy(p->data, data, size);
        p->size = size;
        a->in_memory += size;
        held = true;
    }
    pthread_mutex_unlock(&a->lock);
    return held;
}

/* A copy of the bytes that a pin holds, freed with limn_mem_free. E_NOT_FOUND: none does. */
static limn_status copy_held(limn_artifacts *a, void **data, size_t *size, const char *sha,
                             limn_err *err) {
    limn_status st = LIMN_E_NOT_FOUND;
    pthread_mutex_lock(&a->lock);
    const pin *p = find_pin(a, sha);
    char *copy = p && p->data ? limn_mem_alloc(p->size + 1) : NULL;
    if (copy) {
        memcpy(copy, p->data, p->size);
        copy[p->size] = 0;
        *data = copy;
        *size = p->size;
        st = LIMN_OK;
    } else if (p && p->data) {
        st = limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
    }
    pthread_mutex_unlock(&a->lock);
    return st;
}

bool limn_artifacts_pin(limn_artifacts *a, const char *sha) {
    pthread_mutex_lock(&a->lock);
    bool ok = limn_sha_is_valid(sha) && add_pin(a, sha);
    pthread_mutex_unlock(&a->lock);
    return ok;
}

void limn_artifacts_unpin(limn_artifacts *a, const char *sha) {
    pthread_mutex_lock(&a->lock);
    pin *p = find_pin(a, sha);
    if (p && --p->count == 0) {
        a->in_memory -= p->size;
        limn_mem_free(p->data);
        *p = a->pins[--a->n_pins];
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- writing ---- */
static limn_status cannot_write(limn_err *err, const char *what) {
    int why = errno;
    return limn_fail(err, LIMN_E_UNAVAILABLE, "an artifact cannot be %s: %s", what, strerror(why));
}

static limn_status write_all(int fd, const void *data, size_t size, limn_err *err) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cannot_write(err, "written");
        at += n;
        size -= (size_t)n;
    }
    return LIMN_OK;
}

/* The folder of `path` is made when it is not there; `sync` brings its entry to the disk. */
static void make_parent(limn_artifacts *a, const char *path, bool sync) {
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    pthread_mutex_lock(&a->lock); /* whoever finds a folder finds it on the disk */
    int fd = -1;
    if (mkdir(folder, 0700) == 0 && sync) {
        *strrchr(folder, '/') = 0;
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    pthread_mutex_unlock(&a->lock);
}

void limn_artifacts_prepare(limn_artifacts *a) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/thumbs/ff", a->dir); /* the last one that is made */
    if (access(path, F_OK) == 0) return;
    pthread_mutex_lock(&a->lock);
    for (int i = 0; i < 256; i++) {
        snprintf(path, sizeof path, "%s/blobs/%02x", a->dir, i);
        mkdir(path, 0700);
    }
    snprintf(path, sizeof path, "%s/blobs", a->dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < 256; i++) {
        snprintf(path, sizeof path, "%s/thumbs/%02x", a->dir, i);
        mkdir(path, 0700);
    }
}

static limn_status sync_parent(const char *path, limn_err *err) {
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cannot_write(err, "written");
    /* EINVAL: a file system that cannot sync folders has nothing to promise */
    int rc = fsync(fd);
    limn_status st =
        rc != 0 && errno != EINVAL ? cannot_write(err, "brought to the disk") : LIMN_OK;
    close(fd);
    return st;
}

/* Complete or not there; with `sync`, on the disk when it answers LIMN_OK. */
static limn_status write_file(limn_artifacts *a, const char *path, const void *data, size_t size,
                              bool sync, limn_err *err) {
    char temp[PATH_BYTES];
    snprintf(temp, sizeof temp, "%s/tmp/%s-%u", a->dir, a->token, atomic_fetch_add(&a->counter, 1));
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return cannot_write(err, "written");
    limn_status st = write_all(fd, data, size, err);
    if (st == LIMN_OK && sync && fsync(fd) != 0) st = cannot_write(err, "brought to the disk");
    if (close(fd) != 0 && st == LIMN_OK) st = cannot_write(err, "written");
    if (st == LIMN_OK) {
        make_parent(a, path, sync);
        if (rename(temp, path) != 0) st = cannot_write(err, "named");
    }
    if (st == LIMN_OK && sync) st = sync_parent(path, err);
    if (st != LIMN_OK) unlink(temp);
    return st;
}

/* ---- pictures ---- */
#define EBML "\x1a\x45\xdf\xa3"

/* By the bytes that a format begins with. */
static const char *sniff(const unsigned char *d, size_t n) {
    static const struct {
        size_t at, len;
        const char *bytes, *mime;
    } known[] = {
        {0, 8, "\x89PNG\r\n\x1a\n", "image/png"},
        {0, 3, "\xff\xd8\xff", "image/jpeg"},
        {8, 4, "WEBP", "image/webp"}, /* after RIFF and a size, as AVI */
        {0, 4, "GIF8", "image/gif"},
        {0, 4, "II*\0", "image/tiff"},
        {0, 4, "MM\0*", "image/tiff"},
        {0, 5, "%PDF-", "application/pdf"},
        {4, 6, "ftypqt", "video/quicktime"},
        {4, 4, "ftyp", "video/mp4"},
        {0, 4, EBML, "video/webm"}, /* says so in its head, else it is Matroska */
        {8, 4, "AVI ", "video/x-msvideo"},
        {0, 4, "\0\0\1\xba", "video/mpeg"},
        {0, 4, "FLV\1", "video/x-flv"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (n >= known[i].at + known[i].len &&
            memcmp(d + known[i].at, known[i].bytes, known[i].len) == 0 &&
            (known[i].at != 8 || memcmp(d, "RIFF", 4) == 0)) {
            bool matroska = strcmp(known[i].bytes, EBML) == 0 &&
                            !memmem(d, n < EBML_HEAD ? n : EBML_HEAD, "webm", 4);
            return matroska ? "video/x-matroska" : known[i].mime;
        }
    return "application/octet-stream";
}

/* A picture, a clip or a document: something of it can be shown. */
static bool is_media(const char *mime) {
    return strcmp(mime, "application/octet-stream") != 0;
}

/* The picture, or the first of a clip or a document. */
static limn_status first_picture(limn_image **out, const char *mime, const void *data, size_t size,
                                 limn_err *err) {
    limn_media *media = NULL;
    limn_media_options o = {.frames = 1, .first = 1, .last = 1, .dpi = THUMB_DPI};
    *out = NULL;
    if (strcmp(mime, "image/png") == 0 || strcmp(mime, "image/jpeg") == 0 ||
        strcmp(mime, "image/webp") == 0)
        return limn_image_decode(out, data, size, err);
    limn_status st = limn_media_open_memory(&media, "the file", data, size, &o, err);
    if (st == LIMN_OK) st = limn_media_next(out, media, err);
    limn_media_close(&media);
    return st;
}

limn_status limn_artifacts_shrink(limn_image **out, const limn_image *image, limn_err *err) {
    limn_image *rgb = NULL;
    limn_status st = LIMN_OK;
    int w = image->width, h = image->height, edge = w > h ? w : h;
    *out = NULL;
    if (edge > LIMN_THUMB_SIDE) {
        w = (int)((int64_t)w * LIMN_THUMB_SIDE / edge);
        h = (int)((int64_t)h * LIMN_THUMB_SIDE / edge);
    }
    LIMN_TRY(limn_image_convert(&rgb, image, 3, err));
    LIMN_TRY(limn_image_resize(out, rgb, w > 0 ? w : 1, h > 0 ? h : 1, LIMN_FILTER_LANCZOS, err));
out:
    limn_image_free(&rgb);
    return st;
}

static limn_status make_thumb(void **data, size_t *size, const limn_image *image, limn_err *err) {
    limn_image *small;
    limn_file_options how = LIMN_FILE_OPTIONS;
    how.format = "webp";
    how.quality = THUMB_QUALITY;
    limn_status st = limn_artifacts_shrink(&small, image, err);
    if (st == LIMN_OK) st = limn_image_encode(data, size, small, &how, NULL, err);
    limn_image_free(&small);
    return st;
}

/* A thumbnail that cannot be kept is made again when it is asked for. */
static limn_status keep_thumb(limn_artifacts *a, const char *sha, const limn_image *image,
                              limn_err *err) {
    char path[PATH_BYTES];
    struct stat sb;
    void *data = NULL;
    size_t size = 0;
    thumb_path(a, path, sha);
    if (stat(path, &sb) == 0) return LIMN_OK;
    limn_status st = make_thumb(&data, &size, image, err);
    if (st == LIMN_OK) (void)write_file(a, path, data, size, false, NULL);
    limn_bytes_free(&data);
    return st;
}

void limn_artifacts_keep_thumb(limn_artifacts *a, const char *sha, const limn_image *image) {
    char path[PATH_BYTES];
    struct stat sb;
    if (!limn_sha_is_valid(sha)) return;
    (void)keep_thumb(a, sha, image, NULL);
    pthread_mutex_lock(&a->lock);
    blob_path(a, path, sha);
    bool gone = stat(path, &sb) != 0; /* removed meanwhile, under this lock */
    thumb_path(a, path, sha);
    if (gone) unlink(path);
    pthread_mutex_unlock(&a->lock);
}

/* Fills width and height, and makes the thumbnail of what had to be decoded for them. */
static limn_status describe_picture(limn_artifacts *a, limn_artifact *out, const void *data,
                                    size_t size, const limn_image *image, limn_err *err) {
    limn_image *own = NULL;
    limn_status st = LIMN_OK;
    if (!image) {
        LIMN_TRY(first_picture(&own, out->mime, data, size, err));
        image = own;
    }
    LIMN_CHECK(err, (int64_t)image->width * image->height <= THUMB_PIXELS_MAX, LIMN_E_LIMIT,
               "the picture has too many pixels");
    out->width = image->width;
    out->height = image->height;
    if (own) LIMN_TRY(keep_thumb(a, out->sha, own, err));
out:
    limn_image_free(&own);
    return st;
}

/* The bytes under their name and on the disk. Who finds the file there finds it complete, but
 * perhaps before its name has reached the disk. */
static limn_status keep_file(limn_artifacts *a, const char *sha, const void *data, size_t size,
                             limn_err *err) {
    char path[PATH_BYTES];
    struct stat sb;
    blob_path(a, path, sha);
    if (stat(path, &sb) == 0 && sb.st_size == (off_t)size) return sync_parent(path, err);
    limn_status st = write_file(a, path, data, size, true, err);
    if (st == LIMN_OK) atomic_fetch_add(&a->bytes, (long long)size);
    return st;
}

static bool has_file(limn_artifacts *a, const limn_artifact *artifact) {
    char path[PATH_BYTES];
    struct stat sb;
    blob_path(a, path, artifact->sha);
    return stat(path, &sb) == 0 && sb.st_size == (off_t)artifact->bytes;
}

/* Pins and describes; *later NULL: on the disk in any case. */
static limn_status put(limn_artifacts *a, limn_artifact *out, const void *data, size_t size,
                       const limn_image *image, bool *later, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_artifact made = {.bytes = (int64_t)size};
    if (size == 0) return limn_fail(err, LIMN_E_FORMAT, "the file is empty");
    if ((int64_t)size > LIMN_ARTIFACT_BYTES_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "an artifact has at most 256 MB");
    limn_sha_make(made.sha, data, size);
    snprintf(made.mime, sizeof made.mime, "%s", sniff(data, size));
    if (!limn_artifacts_pin(a, made.sha))
        return limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
    if (is_media(made.mime)) LIMN_TRY(describe_picture(a, &made, data, size, image, err));
    if (later) *later = !has_file(a, &made) && hold_bytes(a, made.sha, data, size);
    if (!later || !*later) LIMN_TRY(keep_file(a, made.sha, data, size, err));
out:
    if (st != LIMN_OK) {
        limn_artifacts_unpin(a, made.sha);
        return st;
    }
    made.role = out->role;
    made.index = out->index;
    made.recipe = out->recipe;
    made.text = out->text;
    *out = made;
    return LIMN_OK;
}

limn_status limn_artifacts_put(limn_artifacts *a, limn_artifact *out, const void *data, size_t size,
                               const limn_image *image, limn_err *err) {
    return put(a, out, data, size, image, NULL, err);
}

limn_status limn_artifacts_put_later(limn_artifacts *a, limn_artifact *out, const void *data,
                                     size_t size, const limn_image *image, bool *later,
                                     limn_err *err) {
    return put(a, out, data, size, image, later, err);
}

limn_status limn_artifacts_hold(limn_artifacts *a, const char *sha, const void *data, size_t size,
                                limn_err *err) {
    char real[LIMN_SHA_LEN + 1];
    limn_sha_make(real, data, size);
    if (strcmp(real, sha) != 0)
        return limn_fail(err, LIMN_E_FORMAT, "artifact %s: its bytes are not its own", sha);
    if (!limn_artifacts_pin(a, sha))
        return limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
    if (hold_bytes(a, sha, data, size)) return LIMN_OK;
    limn_status st = keep_file(a, sha, data, size, err);
    if (st != LIMN_OK) limn_artifacts_unpin(a, sha);
    return st;
}

limn_status limn_artifacts_file(limn_artifacts *a, const char *sha, limn_err *err) {
    void *data = NULL;
    size_t size = 0;
    limn_status st = copy_held(a, &data, &size, sha, err);
    if (st == LIMN_E_NOT_FOUND) return LIMN_OK;
    if (st == LIMN_OK) st = keep_file(a, sha, data, size, err);
    limn_mem_free(data);
    return st;
}

/* ---- reading ---- */
/* Bytes that have no file, as a file without a name. */
static limn_status open_held(int *fd, const void *data, size_t size, limn_err *err) {
    *fd = memfd_create("artifact", MFD_CLOEXEC);
    if (*fd < 0) return limn_fail(err, LIMN_E_UNAVAILABLE, "an artifact cannot be opened");
    limn_status st = write_all(*fd, data, size, err);
    if (st == LIMN_OK && lseek(*fd, 0, SEEK_SET) == 0) return LIMN_OK;
    close(*fd);
    *fd = -1;
    return st != LIMN_OK ? st : limn_fail(err, LIMN_E_UNAVAILABLE, "an artifact cannot be opened");
}

limn_status limn_artifacts_open_fd(limn_artifacts *a, int *fd, int64_t *bytes, const char *sha,
                                   limn_err *err) {
    char path[PATH_BYTES];
    struct stat sb;
    *fd = -1;
    if (!limn_sha_is_valid(sha))
        return limn_fail(err, LIMN_E_NOT_FOUND, "there is no such artifact");
    void *held;
    size_t size;
    limn_status st = copy_held(a, &held, &size, sha, err);
    if (st == LIMN_OK) {
        *bytes = (int64_t)size;
        st = open_held(fd, held, size, err);
        limn_mem_free(held);
    }
    if (st != LIMN_E_NOT_FOUND) return st;
    blob_path(a, path, sha);
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd >= 0 && fstat(*fd, &sb) == 0 && S_ISREG(sb.st_mode)) {
        *bytes = sb.st_size;
        return LIMN_OK;
    }
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return limn_fail(err, LIMN_E_NOT_FOUND, "the file of artifact %s is gone", sha);
}

static limn_status read_fd(int fd, void **data, size_t size, limn_err *err) {
    char *at = limn_mem_alloc(size + 1);
    size_t done = 0;
    if (!at) return limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
    while (done < size) {
        ssize_t n = read(fd, at + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    if (done < size) {
        limn_mem_free(at);
        return limn_fail(err, LIMN_E_IO, "an artifact cannot be read");
    }
    at[size] = 0;
    *data = at;
    return LIMN_OK;
}

limn_status limn_artifacts_read(limn_artifacts *a, void **data, size_t *size, const char *sha,
                                limn_err *err) {
    int fd;
    int64_t bytes;
    *data = NULL;
    limn_status st = copy_held(a, data, size, sha, err);
    if (st != LIMN_E_NOT_FOUND) return st;
    st = limn_artifacts_open_fd(a, &fd, &bytes, sha, err);
    if (st != LIMN_OK) return st;
    *size = (size_t)bytes;
    st = read_fd(fd, data, *size, err);
    close(fd);
    return st;
}

limn_status limn_artifacts_thumb(limn_artifacts *a, void **data, size_t *size, const char *sha,
                                 limn_err *err) {
    char path[PATH_BYTES];
    struct stat sb;
    void *bytes = NULL;
    size_t n = 0;
    limn_image *image = NULL;
    limn_status st = LIMN_OK;
    *data = NULL;
    LIMN_CHECK(err, limn_sha_is_valid(sha), LIMN_E_NOT_FOUND, "there is no such artifact");
    thumb_path(a, path, sha);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        st = fstat(fd, &sb) == 0 ? read_fd(fd, data, (size_t)sb.st_size, err) : LIMN_E_IO;
        *size = (size_t)sb.st_size;
        close(fd);
        if (st == LIMN_OK) return LIMN_OK;
    }
    LIMN_TRY(limn_artifacts_read(a, &bytes, &n, sha, err));
    const char *mime = sniff(bytes, n);
    LIMN_CHECK(err, is_media(mime), LIMN_E_UNSUPPORTED, "the artifact is not a picture");
    LIMN_TRY(first_picture(&image, mime, bytes, n, err));
    LIMN_TRY(make_thumb(data, size, image, err));
    (void)write_file(a, path, *data, *size, false, NULL);
out:
    limn_image_free(&image);
    limn_mem_free(bytes);
    return st;
}

/* ---- removing ---- */
bool limn_artifacts_remove(limn_artifacts *a, const char *sha) {
    char path[PATH_BYTES];
    struct stat sb;
    if (!limn_sha_is_valid(sha)) return false;
    pthread_mutex_lock(&a->lock);
    bool gone = find_pin(a, sha) == NULL;
    if (gone) {
        blob_path(a, path, sha);
        int64_t size = stat(path, &sb) == 0 ? sb.st_size : 0;
        gone = unlink(path) == 0;
        if (gone) atomic_fetch_sub(&a->bytes, size);
        thumb_path(a, path, sha);
        unlink(path);
    }
    pthread_mutex_unlock(&a->lock);
    return gone;
}

/* Temporaries that another process left behind. */
static void sweep_temps(limn_artifacts *a) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/tmp", a->dir);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strncmp(e->d_name, a->token, strlen(a->token)) == 0) continue;
        unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
}

typedef struct sweep {
    limn_artifacts *a;
    bool (*used)(void *user, const char *sha);
    void *user;
    int64_t removed, bytes;
} sweep;

static void sweep_folder(sweep *s, const char *path) {
    DIR *d = opendir(path);
    struct stat sb;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || !limn_sha_is_valid(e->d_name)) continue;
        if (fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) != 0) continue;
        s->bytes += sb.st_size;
        if (s->used(s->user, e->d_name) || !limn_artifacts_remove(s->a, e->d_name)) continue;
        s->bytes -= sb.st_size;
        s->removed++;
    }
    if (d) closedir(d);
}

void limn_artifacts_sweep(limn_artifacts *a, bool (*used)(void *user, const char *sha), void *user,
                          int64_t *removed) {
    char path[PATH_BYTES];
    sweep s = {.a = a, .used = used, .user = user};
    sweep_temps(a);
    for (int i = 0; i < 256; i++) {
        snprintf(path, sizeof path, "%s/blobs/%02x", a->dir, i);
        sweep_folder(&s, path);
    }
    atomic_store(&a->bytes, s.bytes);
    *removed = s.removed;
}

int64_t limn_artifacts_bytes(const limn_artifacts *a) {
    return atomic_load(&a->bytes);
}
