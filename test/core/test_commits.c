/*
 * test/core/test_commits.c
 *     Whether a text commits: as a table, and in random texts put together of
 *     pieces of which that is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/commits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "schema.name schema.name", in front of them "!" when the text commits */
static const char *
reads_as(const char *text, size_t length)
{
    static char out[8192];
    FleetCommits found = {0};
    bool news = fleet_commits_read(text, length, &found);
    size_t n = 0;

    assert_int_equal(news, found.commits || found.ncalled > 0);
    n += (size_t) snprintf(out, sizeof(out), "%s", found.commits ? "!" : "");
    for (int i = 0; i < found.ncalled; i++)
        n += (size_t) snprintf(out + n, sizeof(out) - n, "%s%s.%s", n > 0 ? " " : "",
                               found.called[i].schema, found.called[i].name);
    return out;
}

static void
one_by_one(void **state)
{
    static const struct
    {
        const char *text, *as;
    } cases[] = {
        {"", ""},
        {"CALL p()", ".p"},
        {"call Load.Night ( 1, 'x;')", "load.night"},
        {"CALL \"Load\".\"a\"\"b\"()", "Load.a\"b"},
        {"CALL db.s.p()", "s.p"},
        {"CALL p(); CALL p(); call q()", ".p .q"},
        {"/* CALL x() /* y */ */ -- COMMIT;\n CALL p()", ".p"},
        {"SELECT call(1), do(2)", ""},
        {"SELECT 1 AS commit;", ""},
        {"COMMIT", "!"},
        {"INSERT INTO t VALUES (1); COMMIT;", "!"},
        {"ROLLBACK TO a;", ""},
        {"ROLLBACK PREPARED 'x'", ""},
        {"COMMIT PREPARED 'x'", ""},
        {"DO $$ BEGIN PERFORM 1; COMMIT; END $$", "!"},
        {"DO $x$ BEGIN PERFORM $$ COMMIT; $$; END $x$", ""},
        {"DO 'BEGIN ROLLBACK AND CHAIN; END'", "!"},
        {"DO E'BEGIN\\n COMMIT; END'", ""}, /* \n is two bytes here: it is found by its error */
        {"DO LANGUAGE plpgsql $$ BEGIN commit work; END $$", "!"},
        {"DO $$ BEGIN RAISE 'COMMIT;'; END $$ LANGUAGE plpgsql", ""},
        {"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", ""},
        {"INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 'BEGIN COMMIT; END'", ""},
        {"DO $a$ BEGIN DO $b$ BEGIN COMMIT; END $b$; END $a$", "!"},
        {"DO $a$ BEGIN CALL s.inner(); END $a$", "s.inner"},
        {"BEGIN FOR i IN 1..9 LOOP COMMIT; END LOOP; END", "!"},
        {"BEGIN IF a THEN ROLLBACK; ELSE COMMIT; END IF; END", "!"},
        {"BEGIN <<here>> COMMIT; END", "!"},
        {"BEGIN EXECUTE 'CALL p()'; END", ""},
        {"BEGIN x := commit; END", ""},
        {"plpy.execute('select 1')\nplpy.commit()", "!"},
        {"plpy.notice('plpy.commit()')", ""},
        {"spi_commit();", "!"},
        {"DECLARE \"COMMIT\" int; BEGIN \"COMMIT\" := 1; END", ""},
        {"$", ""},
        {"$$", ""},
        {"$a$ COMMIT;", ""},
        {"'", ""},
        {"/*", ""},
        {"DO", ""},
        {"DO LANGUAGE", ""},
        {"CALL", ""},
        {"CALL .", ""},
        {"plpy", ""},
        {"E'\\", ""},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
    {
        const char *as = reads_as(cases[i].text, strlen(cases[i].text));

        if (strcmp(as, cases[i].as) != 0)
            fail_msg("\"%s\" reads as \"%s\", not \"%s\"", cases[i].text, as, cases[i].as);
    }
}

static void
names_are_cut(void **state)
{
    char text[400], name[200];
    FleetCommits found = {0};

    (void) state;
    memset(name, 'N', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    snprintf(text, sizeof(text), "CALL %s()", name);
    assert_true(fleet_commits_read(text, strlen(text), &found));
    assert_int_equal(strlen(found.called[0].name), FLEET_NAME_MAX - 1);
    assert_int_equal(found.called[0].name[0], 'n');
}

/* Of a text with more names than there is room for the first ones are kept, and COMMIT is seen. */
static void
many_names(void **state)
{
    char text[4096];
    FleetCommits found = {0};
    size_t n = 0;

    (void) state;
    for (int i = 0; i < FLEET_CALLED_MAX + 20; i++)
        n += (size_t) snprintf(text + n, sizeof(text) - n, "CALL p%d(); ", i);
    snprintf(text + n, sizeof(text) - n, "COMMIT");
    assert_true(fleet_commits_read(text, strlen(text), &found));
    assert_int_equal(found.ncalled, FLEET_CALLED_MAX);
    assert_true(found.commits);
}

/* ---- random texts ---- */

static const char *const innocent[] = {"PERFORM 1; ",
                                       "-- COMMIT;\n",
                                       "/* COMMIT; /* ROLLBACK; */ */ ",
                                       "x := 'COMMIT;'; ",
                                       "x := $q$ COMMIT; $q$; ",
                                       "PERFORM \"COMMIT\"; ",
                                       "IF a THEN NULL; END IF; ",
                                       "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; ",
                                       "x := E'\\'; COMMIT;'; ",
                                       "x := ''' COMMIT; '; ",
                                       "ROLLBACK TO a; ",
                                       "PERFORM $1, a$b$c; ",
                                       "\n\t",
                                       "x := '\xe2\x82\xac'; "};
static const char *const commits[] = {"COMMIT; ",
                                      "rollback work; ",
                                      "Commit And No Chain; ",
                                      "IF a THEN COMMIT; END IF; ",
                                      "/**/COMMIT/**/; ",
                                      "DO $z$BEGIN COMMIT; END$z$; "};

#define CASES 20000

static void
random_texts(void **state)
{
    FleetRandom random;

    (void) state;
    fleet_random_seed(&random, 13);
    for (int i = 0; i < CASES; i++)
    {
        char text[4096] = "BEGIN ";
        bool does = fleet_random_below(&random, 2) == 0;
        uint32_t pieces = 1 + fleet_random_below(&random, 12);
        uint32_t where = fleet_random_below(&random, pieces);
        const char *as;

        for (uint32_t k = 0; k < pieces; k++)
        {
            strcat(text, innocent[fleet_random_below(&random, sizeof(innocent) / sizeof(char *))]);
            if (does && k == where)
                strcat(text,
                       commits[fleet_random_below(&random, sizeof(commits) / sizeof(char *))]);
        }
        strcat(text, "END");
        as = reads_as(text, strlen(text));
        if (strcmp(as, does ? "!" : "") != 0)
            fail_msg("case %d: \"%s\" reads as \"%s\"", i, text, as);
    }
}

/* Any bytes, cut anywhere, in a block of just that size: nothing is read beyond it. */
static void
any_bytes(void **state)
{
    static const char some[] = "'\"$-/*;.(E\\aCALLDO \n\xff";
    FleetRandom random;

    (void) state;
    fleet_random_seed(&random, 14);
    for (int i = 0; i < CASES; i++)
    {
        size_t n = fleet_random_below(&random, 40);
        char *text = malloc(n > 0 ? n : 1);

        assert_non_null(text);
        for (size_t k = 0; k < n; k++)
            text[k] = some[fleet_random_below(&random, sizeof(some) - 1)];
        (void) reads_as(text, n);
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_by_one), cmocka_unit_test(names_are_cut), cmocka_unit_test(many_names),
        cmocka_unit_test(random_texts), cmocka_unit_test(any_bytes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
