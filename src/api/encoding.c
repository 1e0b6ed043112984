/*
 * api/encoding.c
 *     What a user gives to a function of ours must have a meaning on every
 *     server: text that UTF-8 can express.  In any session; called by
 *     trampoline.c.
 *
 * Definitions are hashed in UTF-8 and links carry what can be converted to it
 * (link/encoding.c).  A database in another encoding may hold more than that: any
 * bytes if it is SQL_ASCII, and characters without a number in EUC_JP and others.
 * Taken here, they would fail every run later.
 */
#include "postgres.h"

#include "api/caller.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/lsyscache.h"

typedef struct Argument
{
    Oid function;
    int number;
} Argument;

static void
say_which(void *arg)
{
    const Argument *argument = arg;

    errcontext("argument %d of %s()", argument->number, get_func_name(argument->function));
}

/* ERROR 22021 (no character) or 22P05 (one that UTF-8 lacks). */
static void
check_text(const char *s, Argument *argument)
{
    ErrorContextCallback context = {
        .previous = error_context_stack, .callback = say_which, .arg = argument};
    int length = (int) strlen(s);
    int n = 0;

    while (n < length && !IS_HIGHBIT_SET(s[n]))
        n++;
    if (n == length)
        return;
    error_context_stack = &context;
    (void) pg_do_encoding_conversion((unsigned char *) unconstify(char *, s), length,
                                     GetDatabaseEncoding(), PG_UTF8);
    error_context_stack = context.previous;
}

void
fleet_check_arguments(FunctionCallInfo fcinfo)
{
    Argument argument = {.function = fcinfo->flinfo->fn_oid};
    Oid *types;
    int n;

    if (GetDatabaseEncoding() == PG_UTF8)
        return;
    (void) get_func_signature(argument.function, &types, &n);
    for (int i = 0; i < Min(n, PG_NARGS()); i++)
    {
        Oid output;
        bool varlena;

        if (PG_ARGISNULL(i) || (get_typlen(types[i]) != -1 && types[i] != NAMEOID))
            continue;
        argument.number = i + 1;
        getTypeOutputInfo(types[i], &output, &varlena);
        check_text(OidOutputFunctionCall(output, PG_GETARG_DATUM(i)), &argument);
    }
}
