# Runners: what becomes of each kind of step, as the agent hears it.  One server; a backend plays
# the agent (fleet_runner_test.c).  Run by run.sh, which builds the library (FLEET_RUNNER_LIB).
use strict;
use warnings;
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} = $ENV{FLEET_TEST_TIMEOUT} if $ENV{FLEET_TEST_TIMEOUT}; }
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $PATIENCE = $ENV{FLEET_TEST_TIMEOUT} || 90;

# FLEET_BAIL=1: ends at the first failure (for make mutants, where one is enough).
if ($ENV{FLEET_BAIL})
{
    require Test2::API;
    Test2::API::test2_stack()->top->listen(sub { my ($hub, $event) = @_; return unless $event->causes_fail; print STDERR "#   Failed test '", $event->summary, "'\nbail: first failure\n"; exit 99; });
}

my $node = PostgreSQL::Test::Cluster->new('runner');
$node->init;
$node->append_conf('postgresql.conf', "max_worker_processes = 20\nlog_min_messages = error");
$node->start;
my $functions = slurp_file(dirname(__FILE__) . '/fleet_runner_test.sql');
$functions =~ s/:'lib'/'$ENV{FLEET_RUNNER_LIB}'/g;
$node->safe_psql('postgres', $functions);
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE u1 LOGIN; CREATE ROLE u2 LOGIN; CREATE ROLE nologin;
ALTER ROLE u1 SET search_path = pg_catalog, somewhere;
CREATE TABLE t (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE effect (what text);
CREATE PROCEDURE commits(n int, INOUT x int DEFAULT 0) LANGUAGE plpgsql AS
  $$BEGIN FOR i IN 1..n LOOP INSERT INTO effect VALUES ('call'); COMMIT; x := i; END LOOP; END$$;
SQL

# The SQL that runs a step; options are arguments of runner_test().
sub step
{
    my ($command, %o) = @_;
    my $role = delete $o{role} // 'current_user';
    my $select = delete $o{select} // q{string_agg(concat_ws(':', event, sqlstate, output,
        CASE WHEN row_count >= 0 THEN row_count END), ' ')};
    $role = "'$role'" unless $role eq 'current_user';
    my $args = join '', map { ", $_ => '$o{$_}'" } sort keys %o;
    return "SELECT $select FROM runner_test($role\::regrole, \$cmd\$$command\$cmd\$$args);\n";
}

# Events of these steps, given one after another by one agent.
sub events
{
    my ($out, $err, $late) = ('', '');
    my $rc = $node->psql('postgres', join('', @_), stdout => \$out, stderr => \$err, timeout => $PATIENCE, timed_out => \$late);
    diag($late ? "not done within $PATIENCE s" : $err) if $late || $rc;
    return $out;
}

sub gives
{
    my ($what, $command, $expected, %o) = @_;
    is(events(step($command, %o)), $expected, $what);
}

my $plain = 'f';

# one statement, several, none
gives('one statement', 'SELECT 42', 'BEGAN PREPARED:42:1 COMMITTED:42:1');
gives('several: last result, last count', 'INSERT INTO t VALUES (1), (2); SELECT a FROM t ORDER BY a; UPDATE t SET a = a',
    'BEGAN PREPARED:1:2 COMMITTED:1:2');
gives('several, one fails', 'INSERT INTO t VALUES (3); SELECT 1/0', 'BEGAN ERROR:22012');
gives('the same outside of a block', 'INSERT INTO t VALUES (3); SELECT 1/0', 'BEGAN ERROR:22012', transactional => $plain);
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), 2, 'left nothing');
gives('nothing', ' ; -- nothing', 'BEGAN PREPARED COMMITTED');
gives('syntax error', 'selec 1', 'BEGAN ERROR:42601');
gives('deferred constraint fails at commit', 'INSERT INTO t VALUES (1)', 'BEGAN PREPARED:1 ERROR:23505');

# what cannot run in a transaction
for my $command ('VACUUM t', 'CREATE INDEX CONCURRENTLY ON t (a)', 'BEGIN; SELECT 1; COMMIT', 'REINDEX TABLE CONCURRENTLY t')
{
    gives("$command is not transactional", $command, 'BEGAN NOT_TRANSACTIONAL');
}
gives('a procedure that commits is not', 'CALL commits(3)', 'BEGAN NOT_TRANSACTIONAL');
gives('one that is called by an EXECUTE is found out by its error', q{DO $$ BEGIN EXECUTE 'CALL commits(3)'; END $$}, 'BEGAN NOT_TRANSACTIONAL:2D000');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), 0, 'and did nothing');
gives('VACUUM', 'VACUUM t', 'BEGAN COMMITTED', transactional => $plain);
gives('VACUUM among others', 'SELECT 1; VACUUM t', 'BEGAN ERROR:25001', transactional => $plain);
gives('the procedure', 'CALL commits(3)', 'BEGAN COMMITTED:3', transactional => $plain);
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), 3, 'did all of it');
gives('transaction left open', 'BEGIN; INSERT INTO t VALUES (5)', 'BEGAN LOG:01000 COMMITTED:1', transactional => $plain);
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), 2, 'is rolled back');

# CREATE INDEX CONCURRENTLY waits for the snapshot of who waits for it, so it is looked for.
my $agent = $node->background_psql('postgres');
$agent->query_safe(q{SELECT runner_give(current_user::regrole, 'CREATE INDEX CONCURRENTLY ti ON t (a)')});
my $taken = '';
my $end = time + $PATIENCE;
until ($taken || time > $end) { $taken = $agent->query_safe('SELECT runner_taken() FROM pg_sleep(0.02)'); }
is($taken, 'BEGAN COMMITTED ', 'CREATE INDEX CONCURRENTLY');
$agent->quit;
is($node->safe_psql('postgres', q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'ti'::regclass}), 't', 'made a valid index');

# messages
my $message = q{string_agg(concat_ws('|', event, level, sqlstate, message, detail, hint, context), E'\n')};
gives('an error is whole', q{DO $$ BEGIN RAISE 'boom' USING detail = 'd', hint = 'h', errcode = 'ZZ123'; END $$},
    "BEGAN\nERROR|ERROR|ZZ123|boom|d|h|PL/pgSQL function inline_code_block line 1 at RAISE", select => $message);
is(events("SELECT FROM pg_advisory_lock(1);\n",
        step(q{DO $$ BEGIN RAISE NOTICE 'before'; PERFORM pg_advisory_lock(1); RAISE NOTICE 'after'; END $$},
            on_log => 'unlock', select => q{string_agg(concat_ws(':', event, message), ' ')})),
    'BEGAN LOG:before LOG:after PREPARED COMMITTED', 'a NOTICE arrives while its step still runs');
is(events(step(q{DO $$ BEGIN FOR i IN 1..100000 LOOP RAISE NOTICE '%', i; END LOOP; END $$},
        select => q{count(*) FILTER (WHERE event = 'LOG'), max(message) FILTER (WHERE level = 'WARNING'), max(event)})),
    '10001|90000 further lines of this step were not kept|PREPARED', 'lines are capped');
gives('client_min_messages decides, client_encoding does not',
    q{SET client_encoding = latin1; SET client_min_messages = warning; DO $$ BEGIN RAISE NOTICE 'no'; RAISE WARNING 'ü'; END $$},
    'BEGAN| LOG|WARNING:01000:ü PREPARED| COMMITTED|', select => q{string_agg(event || '|' || concat_ws(':', level, sqlstate, message), ' ')});
gives('large value', q{SELECT repeat('é', 1000000)}, '32768:65536', select => q{max(length(output)) || ':' || max(octet_length(output))});
gives('large command and parameters', "SELECT length('" . 'x' x 3000000 . "')", 'BEGAN PREPARED:3000000:1 COMMITTED:3000000:1');

# COPY
gives('COPY FROM STDIN', 'COPY t FROM STDIN', 'BEGAN ERROR:0A000');
gives('COPY TO STDOUT', 'COPY t TO STDOUT', 'BEGAN ERROR:0A000', transactional => $plain);
my $file = $node->data_dir . '/copied';
gives('COPY to a file', "COPY (SELECT generate_series(1, 10)) TO '$file'", 'BEGAN PREPARED:10 COMMITTED:10');
gives('COPY to a file, without the right', "COPY (SELECT 1) TO '$file'", 'BEGAN ERROR:42501', role => 'u1');

# parameters
my $param = q{SELECT current_setting('fleet.params')::jsonb ->> 'a'};
gives('parameter', $param, 'BEGAN PREPARED:b:1 COMMITTED:b:1', params => '{"a": "b"}');
is(events(step($param, params => '{"a": "c"}', transactional => $plain), step($param, fresh => $plain)),
    "BEGAN COMMITTED:c:1\nBEGAN PREPARED:1 COMMITTED:1", 'parameter outside of a block, gone afterwards');

# one session a job, nothing of it in the next job
my $leave = q{CREATE TEMP TABLE left_over (a int); PREPARE q AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 7;
    SET work_mem = '1234kB'; SELECT pg_advisory_lock(99); SET ROLE u2};
my $look = q{SELECT concat_ws(',', current_user = session_user, to_regclass('left_over') IS NOT NULL, current_setting('work_mem'),
    (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()))};
is(events(step($leave, select => 'max(event)'), step($look, fresh => $plain, select => 'max(output)'),
        step($look, select => 'max(output)'), 'SELECT runner_count()'),
    "PREPARED\nf,t,1234kB,1,1,1\nt,f,4MB,0,0,0\n1", 'the same job sees the session, the next job nothing');

# roles
my $who = q{SELECT concat_ws(',', current_user, session_user, current_setting('search_path'))};
gives('role, with its settings', $who, 'u1,u1,pg_catalog, somewhere', role => 'u1', select => 'max(output)');
gives('RESET gives nothing', "RESET ROLE; RESET SESSION AUTHORIZATION; $who", 'u1,u1,pg_catalog, somewhere', role => 'u1', select => 'max(output)');
gives('nor does SET', 'SET SESSION AUTHORIZATION DEFAULT; SET ROLE u2', 'BEGAN ERROR:42501', role => 'u1');
is(events(map { step('SELECT current_user', role => $_, select => 'max(output)') } qw(u1 u2 u1)) . "\n" . events(
        map({ step('SELECT 1', role => $_, select => 'max(output)') } qw(u1 u2 u1 u2)), 'SELECT runner_count()'),
    "u1\nu2\nu1\n1\n1\n1\n1\n2", 'a runner for each role, used again');
gives('role that may not log in', 'SELECT 1', 'ERROR 28000 f role "nologin" is not permitted to log in', role => 'nologin',
    select => q{string_agg(concat_ws(' ', event, sqlstate, never_sent, message), ' ')});
$node->safe_psql('postgres', 'CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM public');
$node->safe_psql('closed', $functions);
is($node->safe_psql('closed', step('SELECT 1', role => 'u1', select => 'max(event), max(sqlstate)')), 'ERROR|42501', 'role that may not connect');
is(events("SET fleet.max_runners = 2;\n",
        step('SELECT 1', role => 'u1', select => 'max(output)'), step('SELECT 2', role => 'u2', select => 'max(output)'),
        step('SELECT 3', select => 'max(output)'), 'SELECT runner_count()'),
    "1\n2\n3\n2", 'an idle runner of another role makes room');

# cancel
gives('cancel', 'SELECT pg_sleep(600)', 'BEGAN ERROR:57014', on_began => 'cancel');
gives('cancel outside of a block, twice', 'SELECT pg_sleep(600)', 'BEGAN ERROR:57014', on_began => 'cancel twice', transactional => $plain);
is(events(step('SELECT 1', on_prepared => 'cancel'), step('SELECT 2')),
    "BEGAN PREPARED:1:1 ERROR:57014\nBEGAN PREPARED:2:1 COMMITTED:2:1", 'cancel of a prepared step; the next one is not touched');
gives('the administrator cancels', 'SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(600)', 'BEGAN ERROR:57014');
gives('statement_timeout of its own', q{SET statement_timeout = '10ms'; SELECT pg_sleep(600)}, 'BEGAN ERROR:57014');

# the process ends
gives('a step that ends its own process', 'SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(600)',
    'BEGAN CUT:57P01:f', select => q{string_agg(concat_ws(':', event, sqlstate, CASE WHEN event = 'CUT' THEN never_sent END), ' ')});
gives('terminated while prepared', q{INSERT INTO effect VALUES ('terminated')}, 'BEGAN PREPARED:1 CUT:57P01', on_prepared => 'terminate');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'terminated'}), 0, 'left nothing');

# queries
gives('query', 'SELECT generate_series(1, 3)', 'BEGAN ROW:{"generate_series": 1} ROW:{"generate_series": 2} ROW:{"generate_series": 3} COMMITTED:3', kind => 'query');
gives('query of several columns', q{SELECT 1 AS i, 'x"' AS t, NULL::int AS n}, 'BEGAN ROW:{"i": 1, "n": null, "t": "x\""} COMMITTED:1', kind => 'query');
gives('query that writes', q{INSERT INTO effect VALUES ('query') RETURNING 1}, 'BEGAN ERROR:25006', kind => 'query');
gives('two queries', 'SELECT 1; SELECT 2', 'BEGAN ERROR:42601', kind => 'query');
gives('no query', 'SET work_mem = 100', 'BEGAN ERROR:42601', kind => 'query');
gives('large row', q{SELECT repeat('x', 65537)}, 'BEGAN ERROR:54000', kind => 'query');
gives('too many rows', 'SELECT generate_series(1, 1000001)', '1000000 54000', kind => 'query',
    select => q{count(*) FILTER (WHERE event = 'ROW') || ' ' || max(sqlstate)});

# what became of a transaction
is(events(step('SELECT 1', on_prepared => 'cancel', select => 'runner_resolve(max(xid))'), step('SELECT 1', select => 'runner_resolve(max(xid))'),
        "SELECT runner_resolve(4000000000), runner_resolve(0), runner_resolve(1)"),
    "aborted\ncommitted\nunknown|unknown|unknown", 'resolved by transaction id');

# the agent goes away under a running step
for my $case ([ 't', 0 ], [ 'f', 1 ])
{
    my ($transactional, $effects) = @$case;
    my $holder = $node->background_psql('postgres');
    $holder->query_safe('SELECT pg_advisory_lock(2)');
    $agent = $node->background_psql('postgres', on_error_stop => 0);
    my $command = "INSERT INTO effect VALUES ('orphan $transactional'); SELECT pg_advisory_lock(2)";
    $agent->query_until(qr/given/, "\\echo given\n" . step($command, transactional => $transactional));
    waits_for_lock();
    $node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT%runner_test(%' AND pid <> pg_backend_pid()});
    ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'SELECT%runner_test(%' AND pid <> pg_backend_pid()}), 'its agent is gone');
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner'}), 1, 'a running command is not disturbed');
    $holder->quit;
    none_left();
    is($node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE what = 'orphan $transactional'"), $effects, "agent gone, transactional $transactional");
    eval { $agent->{run}->kill_kill; };
}

# … and another agent adopts it.  Lines of the request are numbered from 1001 in the unit.
my $talks = q{DO $$ BEGIN RAISE NOTICE 'one'; RAISE NOTICE 'two'; RAISE NOTICE 'three'; INSERT INTO effect VALUES ('adopted');
    PERFORM pg_advisory_lock(3); PERFORM pg_advisory_unlock(3); RAISE NOTICE 'four'; END $$};
my $run_id = 0;

sub until_heard
{
    my ($who, $what) = @_;
    my $heard = '';
    my $end = time + $PATIENCE;
    while (time < $end)
    {
        $heard = $who->query_safe('SELECT runner_heard() FROM pg_sleep(0.02)');
        last if $heard =~ /$what|COMMITTED|ERROR|CUT/; # nothing comes after these
    }
    return $heard;
}

# Gives the command to a runner, which then waits for the lock that $holder has, and ends the agent
# after so many polls.
sub orphan
{
    my ($holder, $polls, %o) = @_;
    $run_id++;
    my $first = $node->background_psql('postgres');
    my $pid = $first->query_safe('SELECT pg_backend_pid()');
    my $transactional = $o{transactional} // 't';
    $first->query_safe("SELECT runner_give(current_user::regrole, \$cmd\$$talks\$cmd\$, '$transactional', $run_id, 'none')");
    waits_for_lock();
    $holder->quit if $o{prepare};
    my $heard = '';
    $heard = until_heard($first, 'PREPARED') if $o{prepare};
    $heard = $first->query_safe('SELECT runner_heard()') for 1 .. $polls;
    my $xid = $first->query_safe('SELECT runner_xid()');
    $first->quit;
    ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the first agent is gone');
    return ($heard, $xid);
}

sub runner_pid { return $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner'}); }

sub none_left { return ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner'}), 'no runner is left'); }

sub waits_for_lock { return ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner' AND wait_event = 'advisory'}), 'its command waits'); }

sub hold
{
    my $holder = $node->background_psql('postgres');
    $holder->query_safe('SELECT pg_advisory_lock(3)');
    return $holder;
}

# Polls of the first agent, lines that it had stored, what the second one hears before and after
for my $case ([ 0, 0, 'BEGAN one two three ' ], [ 1, 2, 'BEGAN three ' ], [ 1, 3, 'BEGAN ' ], [ 2, 3, 'BEGAN ' ])
{
    my ($polls, $stored, $before) = @$case;
    for my $transactional (qw(t f))
    {
        my $what = "adopted after $polls polls, $stored lines stored, transactional $transactional";
        my $holder = hold();
        my ($heard) = orphan($holder, $polls, transactional => $transactional);
        is($heard, 'BEGAN one two three ', "$what: the first agent") if $polls;
        my $second = $node->background_psql('postgres');
        is($second->query_safe("SELECT runner_adopt($run_id, '$transactional', 0, 1000 + $stored)"), 't', $what);
        is($second->query_safe('SELECT runner_heard()'), $before, "$what: what was not stored comes again, at once");
        $holder->quit;
        is(until_heard($second, 'COMMITTED'), $before . 'four ' . ($transactional eq 't' ? 'PREPARED ' : '') . 'COMMITTED ', "$what: to its end");
        $second->quit;
        is($node->safe_psql('postgres', q{DELETE FROM effect WHERE what = 'adopted' RETURNING 1}), 1, "$what: one effect");
    }
}

# prepared: the id was stored or not, and only its own transaction is committed
for my $stored (0, 1)
{
    my (undef, $xid) = orphan(hold(), 0, prepare => 1);
    my $second = $node->background_psql('postgres');
    is($second->query_safe("SELECT runner_adopt($run_id, 't', $xid + 1, 1004)"), 'f', "prepared, stored $stored: not another transaction") if $stored;
    is($second->query_safe("SELECT runner_adopt($run_id, 't', $xid * $stored, 1004)"), 't', "prepared, stored $stored: adopted");
    is(until_heard($second, 'COMMITTED'), 'BEGAN PREPARED COMMITTED ', "prepared, stored $stored: committed");
    $second->quit;
    is($node->safe_psql('postgres', q{DELETE FROM effect WHERE what = 'adopted' RETURNING 1}), 1, "prepared, stored $stored: one effect");
}

# a runner of another step, or in another way, is not taken, but ended
{
    orphan(my $holder = hold(), 1);
    my $second = $node->background_psql('postgres');
    is($second->query_safe("SELECT runner_adopt($run_id + 1, 't', 0, 1000)"), 'f', 'another step is not adopted');
    is($second->query_safe("SELECT runner_adopt($run_id, 'f', 0, 1000)"), 'f', 'nor one that runs in another way');
    $second->query_safe('SELECT runner_heard()');
    ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner'}), 'and is ended');
    $holder->quit;
    $second->quit;
    is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'adopted'}), 0, 'without effect');
}

# a request that an agent left behind is not run under the next one, which adopts what was before it
for my $transactional (qw(t f))
{
    my $what = "left behind, transactional $transactional";
    $run_id++;
    my $holder = hold();
    my $first = $node->background_psql('postgres');
    my $pid = $first->query_safe('SELECT pg_backend_pid()');
    $first->query_safe("SELECT runner_give(current_user::regrole, \$cmd\$$talks\$cmd\$, '$transactional', $run_id, 'none')");
    waits_for_lock();
    $first->query_safe(q{SELECT runner_act('commit')}) if $transactional eq 't';
    $first->query_safe("SELECT runner_give_next(\$cmd\$INSERT INTO effect VALUES ('stale')\$cmd\$, 1000000)");
    $first->quit;
    ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), "$what: an agent ends, with a request in the queue");
    my $runner = runner_pid();
    my $second = $node->background_psql('postgres');
    is($second->query_safe("SELECT runner_adopt($run_id, '$transactional', 0, 1000)"), 't', "$what: the one before it is adopted");
    $holder->quit;
    is(until_heard($second, 'COMMITTED'), 'BEGAN one two three four ' . ($transactional eq 't' ? 'PREPARED ' : '') . 'COMMITTED ', "$what: and ends");
    is($second->query_safe('SELECT runner_taken() IS NOT NULL'), 't', "$what: the runner is given back");
    is($second->query_safe(step('SELECT pg_backend_pid()', select => 'max(output)')), $runner, "$what: and is used again");
    is($node->safe_psql('postgres', q{SELECT string_agg(what, ',' ORDER BY what) FROM effect WHERE what IN ('stale', 'adopted')}), 'adopted',
        "$what: it was not run");
    $node->safe_psql('postgres', q{DELETE FROM effect WHERE what = 'adopted'});
    $second->quit;
    none_left();
}

# nor one that was not even read, when no agent is there any more
{
    my $first = $node->background_psql('postgres');
    my $pid = $first->query_safe('SELECT pg_backend_pid()');
    $first->query_safe(step('SELECT 1', select => 'max(output)'));
    my $runner = runner_pid();
    kill 'STOP', $runner;
    $first->query_safe(q{SELECT runner_give(current_user::regrole, $cmd$INSERT INTO effect VALUES ('unread')$cmd$, 'f', 1000001)});
    $first->quit;
    ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'an agent ends before its request is read');
    kill 'CONT', $runner;
    none_left();
    is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'unread'}), 0, 'it was not run');
}

# nor is a prepared one committed that no agent can adopt
{
    my $first = $node->background_psql('postgres');
    $first->query_safe(q{SELECT runner_give(current_user::regrole, $cmd$INSERT INTO effect VALUES ('forsaken')$cmd$, 't', 0, 'none')});
    like(until_heard($first, 'PREPARED'), qr/PREPARED $/, 'prepared, and its agent ends');
    $first->quit;
    none_left();
    is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'forsaken'}), 0, 'it is rolled back');
}

# a cancel that comes before its request is read is not lost, and is not the next one's
for my $transactional (qw(t f))
{
    my $first = $node->background_psql('postgres');
    $first->query_safe(step('SELECT 1', select => 'max(output)'));
    my $runner = runner_pid();
    kill 'STOP', $runner;
    $first->query_safe("SELECT runner_give(current_user::regrole, \$cmd\$INSERT INTO effect VALUES ('canceled')\$cmd\$, '$transactional')");
    $first->query_safe(q{SELECT runner_act('cancel')});
    kill 'CONT', $runner;
    is(until_heard($first, '57014'), 'ERROR57014 ', "canceled before it was read, transactional $transactional: it never began");
    $first->query_safe('SELECT runner_taken()');
    is($first->query_safe(step('SELECT 7', select => 'max(output)')), 7, 'the next one is not touched');
    $first->quit;
    none_left();
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'canceled'}), 0, 'without effect');

# an idle runner ends after its time, and one that is used does not
{
    my $first = $node->background_psql('postgres');
    $first->query_safe(step('SELECT 1', select => 'max(output)'));
    is($first->query_safe('SELECT runner_count()'), 1, 'an idle runner stays');
    $first->query_safe(q{SET fleet.runner_idle_timeout = '1ms'});
    my $count = '';
    for (1 .. 1800)
    {
        last if ($count = $first->query_safe('SELECT runner_count() FROM pg_sleep(0.01)')) eq '0';
    }
    is($count, 0, 'and ends after its time');
    none_left();
    $first->quit;
}

# the process ends at the boundaries of the protocol: what became of it is told by its transaction
for my $case ([ 'before_prepared', '', 'aborted', 0 ], [ 'before_commit', 'PREPARED:1 ', 'aborted', 0 ], [ 'after_commit', 'PREPARED:1 ', 'committed', 1 ])
{
    my ($point, $heard, $became, $effects) = @$case;
    mkdir $node->data_dir . '/fleet_points';
    append_to_file($node->data_dir . "/fleet_points/runner_$point", "exit\n");
    my @out = split /\n/, events(step("INSERT INTO effect VALUES ('$point')",
        select => q{string_agg(concat_ws(':', event, sqlstate, CASE WHEN row_count >= 0 THEN row_count END, CASE WHEN event = 'CUT' THEN never_sent END), ' ')
            || E'\n' || coalesce(runner_resolve(nullif(max(xid), 0)), 'no id')}));
    is($out[0], "BEGAN ${heard}CUT:XX000:f", "$point: cut");
    is($out[1], $heard ? $became : 'no id', "$point: what became of it");
    is($node->safe_psql('postgres', "SELECT count(*) FROM effect WHERE what = '$point'"), $effects, "$point: effects");
    ok(!-e $node->data_dir . "/fleet_points/runner_$point", "$point: it ended there");
}

# messages are whole, each within its cap
is(events(step(q{DO $$ BEGIN RAISE WARNING 'w' USING detail = 'd', hint = 'h', errcode = '01ZZ1'; RAISE INFO 'i'; RAISE LOG 'l'; RAISE DEBUG 'd'; END $$}, select => $message)),
    "BEGAN\nLOG|WARNING|01ZZ1|w|d|h|PL/pgSQL function inline_code_block line 1 at RAISE\nLOG|INFO|00000|i|PL/pgSQL function inline_code_block line 1 at RAISE\nPREPARED\nCOMMITTED",
    'a message is whole: level, SQLSTATE, message, detail, hint, context; LOG and DEBUG go to the server only');
gives('a value as large as the cap is whole, one larger is clipped', q{SELECT repeat('x', 65536)}, '65536', select => q{max(length(output))});
gives('at a character', q{SELECT repeat('€', 30000)}, '65535', select => q{max(octet_length(output))});
gives('clipped', q{SELECT repeat('x', 65537)}, '65536', select => q{max(length(output))});

# nothing is left
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner'}), 'no runner is left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no lock');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_prepared_xacts}), 0, 'no prepared transaction');
$node->stop;
done_testing();
