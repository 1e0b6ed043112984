/*
 * cron_lines.c
 *     Reads lines "schedule <tab> seconds since 1970", writes for each the next
 *     three times in UTC, or "refused".  For cron_peer.py.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cron.h"

static int32_t
no_offset(void *context, FleetTime time)
{
    (void) context;
    (void) time;
    return 0;
}

int
main(void)
{
    FleetZone utc = {no_offset, NULL};
    char line[1000];

    while (fgets(line, sizeof line, stdin) != NULL)
    {
        char *tab = strchr(line, '\t');
        FleetCron cron;
        FleetTime time;

        if (tab == NULL)
            return 1;
        *tab = '\0';
        time = FLEET_SECONDS(strtoll(tab + 1, NULL, 10));
        if (!fleet_cron_parse(line, &cron, NULL))
        {
            puts("refused");
            continue;
        }
        for (int i = 0; i < 3; i++)
        {
            time = fleet_cron_next(&cron, &utc, time);
            printf("%" PRId64 "%c", time == FLEET_NEVER ? -1 : time / 1000000, i < 2 ? ' ' : '\n');
        }
    }
    return 0;
}
