/*
 * Reads a ledger (docs/ledger-format.md): may a value that was loaded at some time be served now?
 *     ledger_reader PATH NAMESPACE MAX_STALENESS_S LOADED_AT_NS KEY [TAG ...]
 * Prints "valid" (exit status 0), "invalidated" or "unleased" (1), or on stderr why the file is refused (2).
 * LOADED_AT_NS is the time of the steady clock before the value was loaded.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_BOOTTIME
#define CLOCK_BOOTTIME CLOCK_MONOTONIC /* macOS, where it counts suspended time */
#endif

enum { MAGIC, LAYOUT, SLOTS, RING = 5, FLUSHED_AT = 9, PROVEN_AT, LISTENING_SINCE, NAMESPACE = 24, HEADER = 64 };
enum { KEY_SEED = 0x6B657973, TAG_SEED = 0x74616773 }; /* "keys", "tags" */

static int64_t load(const int64_t *words, uint64_t index)
{
    return __atomic_load_n(&words[index], __ATOMIC_ACQUIRE);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t slot_of(const char *name, uint32_t seed, uint64_t slots)
{
    uint32_t crc = ~seed; /* zlib's crc32(seed, name) */
    for (; *name; name++)
        for (int bit = (crc ^= (unsigned char)*name, 0); bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
    return (uint64_t)(~crc * UINT32_C(0x9E3779B1)) * slots >> 32;
}

static const int64_t *refuse(const char *why)
{
    fprintf(stderr, "refused: %s\n", why);
    return NULL;
}

static const int64_t *map_ledger(const char *path, const char *wanted)
{
    struct stat found;
    char namespace[64] = "";
    int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &found) < 0)
        return refuse("it cannot be opened");
    if (!S_ISREG(found.st_mode) || (found.st_mode & 022))
        return refuse("it is no regular file, or others can write it");
    if (found.st_size < 8 * HEADER || found.st_size % 8)
        return refuse("its size is not that of a ledger");
    const int64_t *words = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (words == MAP_FAILED)
        return refuse("it cannot be mapped");
    if (load(words, MAGIC) != INT64_C(0x494E56414C454447) || load(words, LAYOUT) != 2)
        return refuse("it is no ledger of layout 2");
    if (load(words, RING) < 0 || load(words, SLOTS) + load(words, RING) != found.st_size / 8 - HEADER)
        return refuse("its size is not that of its slots");
    if (strlen(wanted) > 64 || memcmp(&words[NAMESPACE], memcpy(namespace, wanted, strlen(wanted)), 64))
        return refuse("it is for another namespace");
    if (load(words, PROVEN_AT) > now_ns())
        return refuse("its clock is not ours: the host was restarted since");
    return words;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return fputs("usage: ledger_reader PATH NAMESPACE MAX_STALENESS_S LOADED_AT_NS KEY [TAG ...]\n", stderr), 2;
    const int64_t *words = map_ledger(argv[1], argv[2]);
    if (words == NULL)
        return 2;
    int64_t max_staleness = (int64_t)(atof(argv[3]) * 1e9), loaded_at = strtoll(argv[4], NULL, 10);
    int64_t proven_at = load(words, PROVEN_AT); /* before the stamps; who keeps CHANGES reads it in between */
    int64_t newest = load(words, FLUSHED_AT);
    for (int name = 5; name < argc; name++) {
        uint64_t slot = slot_of(argv[name], name == 5 ? KEY_SEED : TAG_SEED, (uint64_t)load(words, SLOTS));
        int64_t stamp = load(words, HEADER + slot);
        newest = stamp > newest ? stamp : newest;
    }
    int64_t listening_since = load(words, LISTENING_SINCE);
    int64_t now = now_ns(); /* last: who was paused above wakes up past the lease */
    int is_leased = proven_at > 0 && listening_since < loaded_at && now < proven_at + max_staleness;
    const char *verdict = newest >= loaded_at ? "invalidated"
                          : is_leased || now < loaded_at + max_staleness ? "valid" : "unleased";
    return puts(verdict) < 0 || strcmp(verdict, "valid") != 0;
}
