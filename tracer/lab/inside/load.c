/* Load for a file system: THREADS threads, each making and removing ROUNDS files, with small and large messages.
 *
 *   load THREADS ROUNDS DIRECTORY...        a thread works in one of the directories, in turn
 *
 * Whoever sees a WRITE or the answer to a READ can check it alone: each eight bytes of a file hold its number and their
 * own offset, least byte first: number << 40 | offset. The number is part of the file's name. What is read back is
 * checked here too.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { LARGE = 1 << 20, SMALL_COUNT = 16, SMALL_GAP = 4096, NAME = 4096 };
static const size_t SMALL[] = {8, 64, 520, 4096, 1536, 24, 2048, 136};

static int rounds, directory_count;
static char **directories;

static void check(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void fill(uint64_t *words, uint64_t number, uint64_t offset, size_t size)
{
	for (size_t i = 0; i < size / 8; i++)
		words[i] = number << 40 | (offset + 8 * i);
}

static void put(int fd, uint64_t *words, uint64_t number, uint64_t offset, size_t size)
{
	fill(words, number, offset, size);
	check(pwrite(fd, words, size, offset) == (ssize_t)size, "pwrite");
}

static void get(int fd, uint64_t *words, uint64_t number, uint64_t offset, size_t size)
{
	memset(words, 0xff, size);
	check(pread(fd, words, size, offset) == (ssize_t)size, "pread");
	for (size_t i = 0; i < size / 8; i++)
		check(words[i] == (number << 40 | (offset + 8 * i)), "what was read is not what was written");
}

static void look_around(const char *name, const char *directory)
{
	struct stat facts;
	struct statvfs room;
	DIR *list;

	check(!stat(name, &facts) && facts.st_size >= LARGE, "stat");
	check(!statvfs(directory, &room), "statvfs");
	check((list = opendir(directory)) != NULL, "opendir");
	while (readdir(list))
		;
	closedir(list);
}

static void one_file(uint64_t number, const char *directory, uint64_t *words)
{
	char name[NAME], other[NAME];
	struct stat facts;
	int fd;

	snprintf(name, sizeof name, "%s/file-%llu", directory, (unsigned long long)number);
	snprintf(other, sizeof other, "%s/moved-%llu", directory, (unsigned long long)number);
	check((fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0644)) >= 0, "open");
	for (int i = 0; i < SMALL_COUNT; i++)
		put(fd, words, number, LARGE + (uint64_t)i * SMALL_GAP, SMALL[i % (sizeof SMALL / sizeof *SMALL)]);
	put(fd, words, number, 0, LARGE);
	look_around(name, directory);
	check(!rename(name, other), "rename");
	check(stat(name, &facts) && errno == ENOENT, "the old name is gone");
	get(fd, words, number, 0, LARGE);
	for (int i = 0; i < SMALL_COUNT; i++)
		get(fd, words, number, LARGE + (uint64_t)i * SMALL_GAP, SMALL[i % (sizeof SMALL / sizeof *SMALL)]);
	if (number % 4 == 0)
		check(!fsync(fd), "fsync");
	check(!close(fd), "close");
	check(!unlink(other), "unlink");
}

static void *work(void *argument)
{
	int thread = (int)(intptr_t)argument;
	void *words;

	/* aligned: a page more would be needed otherwise, and a message has no room for it */
	check(!posix_memalign(&words, 4096, LARGE), "posix_memalign");
	for (int round = 0; round < rounds; round++)
		one_file(1 + (uint64_t)thread * rounds + round, directories[thread % directory_count], words);
	free(words);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	int count;

	if (argc < 4 || (count = atoi(argv[1])) < 1 || count > 64 || (rounds = atoi(argv[2])) < 1)
		return fprintf(stderr, "usage: load THREADS ROUNDS DIRECTORY...\n"), 2;
	directories = argv + 3;
	directory_count = argc - 3;
	for (int i = 0; i < count; i++)
		check(!(errno = pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i)), "pthread_create");
	for (int i = 0; i < count; i++)
		check(!(errno = pthread_join(threads[i], NULL)), "pthread_join");
	printf("%d files written, read and removed\n", count * rounds);
	return 0;
}
