/* Counter of a lab guest: writes numbered, dated, checksummed sectors to a ring on its disk, one at a time,
 * each on stable storage before the next, reads the one before back, and says so on the console.
 *
 * usage: counter DEVICE OFFSET LENGTH PERIOD_MS
 *
 * Sector N % (LENGTH / 512) holds: "tick N MILLISECONDS BOOT CRC32\n", then bytes of value N % 251 to its end.
 * The CRC-32 (IEEE) covers "tick N MILLISECONDS BOOT" and the filling. BOOT is a random number of this start.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SECTOR = 512, BATCH = 128 };

static uint32_t crc32_of(const unsigned char *data, size_t length, uint32_t crc)
{
    crc = ~crc;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

static uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void compose(unsigned char *sector, uint64_t tick, uint32_t boot)
{
    char text[128];
    int length = snprintf(text, sizeof text, "tick %llu %llu %08x", (unsigned long long)tick,
                          (unsigned long long)milliseconds(), boot);
    int head = length + 1 + 8 + 1;
    memset(sector, tick % 251, SECTOR);
    uint32_t crc = crc32_of((unsigned char *)text, length, 0);
    crc = crc32_of(sector + head, SECTOR - head, crc);
    char line[160];
    snprintf(line, sizeof line, "%s %08x\n", text, crc);
    memcpy(sector, line, head);
}

/* Number of the record in a sector, 0 when there is no whole one. */
static uint64_t record_in(const unsigned char *sector)
{
    char line[160];
    const unsigned char *end = memchr(sector, '\n', sizeof line - 1);
    if (!end || memcmp(sector, "tick ", 5))
        return 0;
    size_t head = end - sector + 1;
    memcpy(line, sector, head);
    line[head - 1] = 0;
    char *space = strrchr(line, ' ');
    if (!space)
        return 0;
    uint32_t crc = crc32_of(sector, space - line, 0);
    crc = crc32_of(sector + head, SECTOR - head, crc);
    return crc == strtoul(space + 1, NULL, 16) ? strtoull(line + 5, NULL, 10) : 0;
}

static uint64_t last_record(int device, off_t offset, uint64_t slots, unsigned char *buffer)
{
    uint64_t last = 0;
    for (uint64_t slot = 0; slot < slots; slot += BATCH) {
        uint64_t count = slots - slot < BATCH ? slots - slot : BATCH;
        ssize_t got = pread(device, buffer, count * SECTOR, offset + slot * SECTOR);
        for (ssize_t at = 0; at + SECTOR <= got; at += SECTOR) {
            uint64_t tick = buffer[at] ? record_in(buffer + at) : 0;
            if (tick > last)
                last = tick;
        }
    }
    return last;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: counter DEVICE OFFSET LENGTH PERIOD_MS\n");
        return 2;
    }
    off_t offset = strtoll(argv[2], NULL, 10);
    uint64_t slots = strtoull(argv[3], NULL, 10) / SECTOR, period = strtoull(argv[4], NULL, 10);
    unsigned char *buffer = NULL;
    uint32_t boot = (uint32_t)milliseconds();
    setvbuf(stdout, NULL, _IOLBF, 0);
    int device = open(argv[1], O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
    if (device < 0 || slots == 0 || posix_memalign((void **)&buffer, 4096, BATCH * SECTOR)) {
        printf("counter: cannot open %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (random < 0 || read(random, &boot, sizeof boot) != sizeof boot)
        printf("counter: no random number: %s\n", strerror(errno));
    uint64_t tick = last_record(device, offset, slots, buffer);
    printf("resumed at %llu\n", (unsigned long long)tick);
    for (;;) {
        tick++;
        compose(buffer, tick, boot);
        if (pwrite(device, buffer, SECTOR, offset + tick % slots * SECTOR) != SECTOR)
            printf("counter: write of tick %llu failed: %s\n", (unsigned long long)tick, strerror(errno));
        else
            printf("tick %llu\n", (unsigned long long)tick);
        if (tick > 1 && (pread(device, buffer, SECTOR, offset + (tick - 1) % slots * SECTOR) != SECTOR
                         || record_in(buffer) != tick - 1))
            printf("counter: tick %llu does not read back\n", (unsigned long long)(tick - 1));
        struct timespec pause = { period / 1000, period % 1000 * 1000000 };
        nanosleep(&pause, NULL);
    }
}
