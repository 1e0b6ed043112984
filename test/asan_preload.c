/*
 * asan_preload.c
 *     Preloaded together with AddressSanitizer's runtime into servers that were
 *     not built with it (run.sh).
 *
 * The runtime begins its work at the first malloc.  In the server that is in
 * the constructor of one of its libraries (libgpg-error, p11-kit), which just
 * then holds one of the C library's locks for messages and locales.  The
 * runtime looks for a symbol that only Swift programs have, does not find it,
 * and asks for the text of that error, for which the C library takes the same
 * lock: the process waits for itself, forever.  So it shall find the symbol.
 */
#include <stddef.h>

char *swift_demangle(const char *name, size_t length, char *out, size_t *out_size, unsigned flags);

char *
swift_demangle(const char *name, size_t length, char *out, size_t *out_size, unsigned flags)
{
    (void) name;
    (void) length;
    (void) out;
    (void) out_size;
    (void) flags;
    return NULL; /* it is no name of Swift's */
}
