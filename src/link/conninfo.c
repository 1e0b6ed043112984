/*
 * link/conninfo.c
 *     Connection strings as users write them.  In any session.
 */
#include "postgres.h"

#include "libpq-fe.h"
#include "link/conninfo.h"

bool
fleet_conninfo_parse(const char *conninfo, char ***keywords, char ***values)
{
    char *error = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &error);
    int count = 0, used = 0;

    if (error != NULL)
        PQfreemem(error);
    if (options == NULL)
        return false;
    while (options[count].keyword != NULL)
        count++;
    PG_TRY();
    {
        *keywords = palloc(sizeof(char *) * (count + 1));
        *values = palloc(sizeof(char *) * (count + 1));
        for (int i = 0; i < count; i++)
        {
            if (options[i].val == NULL)
                continue;
            (*keywords)[used] = pstrdup(options[i].keyword);
            (*values)[used++] = pstrdup(options[i].val);
        }
        (*keywords)[used] = (*values)[used] = NULL;
    }
    PG_FINALLY();
    {
        PQconninfoFree(options);
    }
    PG_END_TRY();
    return true;
}
