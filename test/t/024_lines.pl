# What a job says and how it ends reaches the parent: every line once, in order, without a gap, as it
# was raised, also over restarts of the parent and of agents, and while the step still runs; results
# are kept until they are acknowledged; two parents of one server do not see each other's work.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, preload => 1);
my $witness = 'host=127.0.0.1 port=' . $f->node('witness')->port . ' dbname=witness user=witness password=witness';
for my $server (qw(parent a1))
{
    $f->sql_on($server, <<"SQL");
-- One of each kind, with all that can be said.
CREATE FUNCTION etl.say(part text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    RAISE DEBUG '% debug', part;
    RAISE LOG '% log', part;
    RAISE INFO '% info', part;
    RAISE NOTICE '% plain', part;
    RAISE NOTICE '% notice', part USING DETAIL = part || ' a detail', HINT = part || ' a hint', ERRCODE = '01F02';
    RAISE WARNING '% warning', part USING DETAIL = E'two\\nlines', HINT = 'Grüße, 世界', ERRCODE = '01ZZ9';
END \$\$;
CREATE FUNCTION etl.stay() RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
    released boolean := false;
BEGIN
    PERFORM etl.witness('start');
    WHILE NOT released LOOP
        SELECT n > 0 INTO released FROM public.dblink('$witness',
            format('SELECT count(*) FROM event WHERE what = ''release'' AND key = %L', etl.key())) AS t(n bigint);
        PERFORM pg_sleep(0.02);
    END LOOP;
    PERFORM etl.witness('end');
END \$\$;
CREATE FUNCTION etl.say_and_stay() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.say('before');
    PERFORM etl.stay();
    PERFORM etl.say('after');
    RETURN 'said';
END \$\$;
CREATE FUNCTION etl.break_it() RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.say('broken');
    RAISE EXCEPTION 'it broke' USING ERRCODE = 'ZX007', DETAIL = 'the detail', HINT = 'the hint';
END \$\$;
CREATE FUNCTION etl.stay_and_break() RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.stay();
    PERFORM etl.break_it();
END \$\$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA etl TO etl;
SQL
}

# What etl.say() raises, as fleet.log has it: level, SQLSTATE, message, detail, hint.  (DEBUG and LOG do
# not reach a client, psql's neither.)
sub said
{
    my ($part) = @_;
    return ("INFO|00000|$part info||", "NOTICE|00000|$part plain||", "NOTICE|01F02|$part notice|$part a detail|$part a hint",
        "WARNING|01ZZ9|$part warning|two\\nlines|Gr\x{fc}\x{df}e, \x{4e16}\x{754c}");
}

sub lines
{
    my ($run, $task) = @_;
    my $text = $f->sql("SELECT string_agg(concat_ws('|', level, coalesce(sqlstate, ''), message, coalesce(replace(detail, E'\\n', '\\n'), ''), coalesce(hint, '')), E'\\n' ORDER BY seq)"
          . " FROM fleet.log WHERE run_id = $run AND task = '$task'");
    utf8::decode($text);
    return split /\n/, $text;
}

sub whole
{
    my ($run, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($f->sql("SELECT string_agg(DISTINCT (min = 1 AND max = n AND n = d)::text, ' ') FROM (SELECT min(seq), max(seq), count(*) AS n, count(DISTINCT seq) AS d"
              . " FROM fleet.log WHERE run_id = $run GROUP BY task, item) AS x"), 'true', "$name: numbered from 1 without a gap, each once");
}

sub key { my ($key) = @_; return qq({"key": "$key"}); }

$f->job('say', { name => 'one', sql => 'SELECT etl.say_and_stay()' });
$f->job('break', { name => 'one', sql => q{SELECT etl.say('first')}}, { name => 'two', sql => 'SELECT etl.break_it()' });
$f->job('late', { name => 'one', sql => 'SELECT etl.stay(); INSERT INTO etl.effect SELECT etl.key() FROM generate_series(1, 7) RETURNING 4711' });
$f->job('late_break', { name => 'one', sql => 'SELECT etl.stay_and_break()' });
for my $place (qw(here a1))
{
    $f->package("say_$place", -params => '{"key": null}', t => $place eq 'here' ? { sql => 'SELECT etl.say_and_stay()' } : { job => 'say', server => 'a1' });
    $f->package("break_$place", t => $place eq 'here' ? { sql => 'SELECT etl.break_it()' } : { job => 'break', server => 'a1' });
}
$f->package('late', -params => '{"key": null}', good => { job => 'late', server => 'a1' }, bad => { job => 'late_break', server => 'a1' });

# ---- as raised, while the step runs, over the end of whom it concerns --------------------------

# Who ends between the two halves of what is said, and which agent is to be back.
my %end = (
    nobody         => sub { },
    'the agent'    => sub { $_[0] eq 'here' ? agent('parent') : agent('a1') },
    'the parent'   => sub { $f->parent->stop('immediate'); $f->parent->start },
    'its agent'    => sub { agent('parent') });

sub agent
{
    my ($node) = @_;
    my $pid = $f->agent_pid($node);
    $f->sql_on($node, "SELECT pg_terminate_backend($pid, 10000)");
    return $f->wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet agent' AND datname = 'dw' AND pid <> $pid",
        '1', "$node: the next agent is there");
}

for my $case ([ 'here', 'nobody' ], [ 'here', 'the agent' ], [ 'a1', 'nobody' ], [ 'a1', 'the agent' ], [ 'a1', 'the parent' ], [ 'a1', 'its agent' ])
{
    my ($place, $who) = @$case;
    my $name = "$place, $who ends";
    (my $key = $name) =~ s/\W+/_/g;
    my $step = $place eq 'here' ? 't' : 'one';
    my $schema = $place eq 'here' ? 'etl.' : ''; # there it is role etl's own, and in its path
    my $run = $f->start("say_$place", key($key));
    $f->wait_for('parent', "SELECT count(*) FROM fleet.log WHERE run_id = $run AND message LIKE 'before %'", '4', "$name: the first half is readable");
    is($f->witnessed($key, 'end'), 0, "$name: while the step runs");
    $end{$who}->($place);
    $f->release($key);
    $f->run_is($run, 'succeeded', "$name: succeeded");
    is_deeply([ lines($run, 't') ], [ qq{INFO||step "$step" started||}, said('before'), said('after'), qq{INFO||step "$step" succeeded||} ],
        "$name: every line as it was raised, in order, once");
    whole($run, $name);
    is($f->sql("SELECT string_agg(DISTINCT context, '#') FROM fleet.log WHERE run_id = $run AND message = 'after plain'"),
        "PL/pgSQL function ${schema}say(text) line 6 at RAISE\nSQL statement \"SELECT etl.say('after')\"\nPL/pgSQL function ${schema}say_and_stay() line 5 at PERFORM",
        "$name: with the context");
    is($f->sql("SELECT state || ' ' || row_count || ' ' || output || ' ' || attempt FROM fleet.task_run WHERE run_id = $run"), 'succeeded 1 said 1',
        "$name: row count and value reach the task run");
    is($f->witnessed($key, 'start'), 1, "$name: it ran once");
}

# ---- a failure ---------------------------------------------------------------------------------

for my $place (qw(here a1))
{
    my $run = $f->start("break_$place");
    $f->run_is($run, 'failed', "$place: a step that fails fails the run");
    my $step = $place eq 'here' ? 't' : 'two';
    my $schema = $place eq 'here' ? 'etl.' : '';
    is($f->sql("SELECT concat_ws('|', state, sqlstate, message, row_count, output) FROM fleet.task_run WHERE run_id = $run"), 'failed|ZX007|it broke',
        "$place: SQLSTATE and message of the task run");
    is($f->sql("SELECT concat_ws('|', step, state, sqlstate, message, detail, hint, context, row_count, output) FROM fleet.job_log WHERE run_id = $run AND step = '$step'"),
        "$step|failed|ZX007|it broke|the detail|the hint|PL/pgSQL function ${schema}break_it() line 4 at RAISE", "$place: of the step, with detail, hint and context");
    is($f->sql("SELECT concat_ws('|', level, sqlstate, message, detail, hint, context) FROM fleet.log WHERE run_id = $run ORDER BY seq DESC LIMIT 1"),
        "ERROR|ZX007|it broke|the detail|the hint|PL/pgSQL function ${schema}break_it() line 4 at RAISE", "$place: and as an ERROR, the last line of the log");
    is_deeply([ map { (split /\|/)[2] } lines($run, 't') ],
        [ $place eq 'here' ? 'step "t" started' : ('step "one" started', map({ "first $_" } qw(info plain notice warning)), 'step "one" succeeded', 'step "two" started'),
            map({ "broken $_" } qw(info plain notice warning)), 'it broke' ],
        "$place: what was said before it is there");
    whole($run, $place);
}

# ---- results are kept until the parent has them ------------------------------------------------

my $run = $f->start('late', key('late'));
$f->wait_started('late', 2);
$f->parent->stop('immediate');
$f->release('late');
$f->wait_for('a1', q{SELECT string_agg(state, ' ' ORDER BY job) FROM fleet.job_run WHERE params ->> 'key' = 'late'}, 'succeeded failed', 'ended while the parent is down');
is($f->sql_on('a1', q{SELECT count(acknowledged_at) FROM fleet.job_run WHERE params ->> 'key' = 'late'}), '0', 'down: nothing is acknowledged');
$f->parent->start;
$f->run_is($run, 'failed', 'picked up: the run ends');
is($f->sql("SELECT string_agg(concat_ws('|', task, state, row_count, output, sqlstate, message), ' ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run"),
    'bad|failed|ZX007|it broke good|succeeded|7|4711', 'picked up: state, row count, value, SQLSTATE, message');
is_deeply([ lines($run, 'bad') ], [ 'INFO||step "one" started||', said('broken'), 'ERROR|ZX007|it broke|the detail|the hint' ], 'picked up: the log');
is_deeply([ lines($run, 'good') ], [ 'INFO||step "one" started||', 'INFO||step "one" succeeded||' ], 'picked up: of both');
is($f->sql("SELECT string_agg(concat_ws('|', task, step, attempt, state, row_count, output, detail, hint), ' ' ORDER BY task) FROM fleet.job_log WHERE run_id = $run"),
    'bad|one|1|failed|the detail|the hint good|one|1|succeeded|7|4711', 'picked up: the steps');
is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $run AND finished_at > started_at"), '2', 'picked up: with their times');
$f->wait_for('a1', q{SELECT count(acknowledged_at) FROM fleet.job_run WHERE params ->> 'key' = 'late'}, '2', 'picked up: then they are acknowledged');
is($f->effects('a1', 'late'), 7, 'picked up: one effect each');
is($f->witnessed('late', 'start'), 2, 'picked up: started once each');
$f->wait_for('a1', q{SELECT count(*) FROM fleet.job_run WHERE acknowledged_at IS NULL}, '0', 'all that ended is acknowledged');

# ---- a line that is long, and many of them -----------------------------------------------------

$f->sql_on($_, <<'SQL') for qw(parent a1);
CREATE FUNCTION etl.much() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..3000 LOOP
        RAISE NOTICE 'number %', i;
    END LOOP;
    RAISE NOTICE '%', repeat('é', 100000);
    RETURN repeat('ö', 100000);
END $$;
SQL
$f->job('much', 'SELECT etl.much()');
$f->package('much', here => { sql => 'SELECT etl.much()' }, a1 => { job => 'much', server => 'a1' });
$run = $f->start('much');
$f->run_is($run, 'succeeded', 'many lines');
for my $task (qw(here a1))
{
    is($f->sql("SELECT count(*) || ' ' || count(DISTINCT seq) || ' ' || bool_and(message = 'number ' || (seq - 1)) FROM fleet.log WHERE run_id = $run AND task = '$task' AND message LIKE 'number %'"),
        '3000 3000 true', "$task: 3000 lines, each once, in its place");
    is($f->sql("SELECT octet_length(output) || ' ' || (output = repeat('ö', length(output))) FROM fleet.task_run WHERE run_id = $run AND task = '$task'"), '65536 true',
        "$task: a value is clipped at its cap, at a character");
}
is($f->sql("SELECT count(DISTINCT message) || ' ' || bool_and(message = repeat('é', length(message))) FROM fleet.log WHERE run_id = $run AND message LIKE 'éé%'"), '1 true',
    'a long line is clipped alike in both places, at a character');
whole($run, 'many lines');

# ---- two parents -------------------------------------------------------------------------------

# Another database of the same cluster is another parent; job and package have the same names.
my $port = $f->node('a1')->port;
$f->parent->safe_psql('postgres', 'CREATE DATABASE second');
$f->parent->safe_psql('second', <<"SQL");
CREATE EXTENSION pg_fleet;
SELECT fleet.add_server('a1', 'host=127.0.0.1 port=$port dbname=dw sslmode=disable', username => 'etl', password => '$FleetTest::PASSWORD', mode => 'agent', slots => 4);
SELECT fleet.create_package('say_a1', params => '{"key": null}');
SELECT fleet.add_task('say_a1', 't', job => 'say', server => 'a1');
SQL
my $first = $f->start('say_a1', key('of first'));
my $second = $f->parent->safe_psql('second', q{SELECT fleet.run_parent_package('say_a1', params => '{"key": "of second"}')});
sub second { my ($query) = @_; return $f->parent->safe_psql('second', $query); }
$f->wait_started($_) for 'of first', 'of second';
is($f->sql_on('a1', q{SELECT count(DISTINCT parent_uuid) || ' ' || count(*) FROM fleet.job_run WHERE params ->> 'key' LIKE 'of %'}), '2 2', 'two parents: a job run of each');
second("SELECT fleet.cancel_run($second)");
is(second("SELECT fleet.wait_for_run($second, timeout => '${FleetTest::PATIENCE}s')"), 'canceled', 'two parents: one cancels its own');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $first", 'running', 'two parents: the other one\'s continues');
is($f->witnessed('of second', 'end'), 0, 'two parents: the canceled one did not come to its end');
$f->release('of first');
$f->run_is($first, 'succeeded', 'two parents: and succeeds');
is_deeply([ lines($first, 't') ], [ 'INFO||step "one" started||', said('before'), said('after'), 'INFO||step "one" succeeded||' ], 'two parents: with its own lines only');
is(second("SELECT string_agg(message, '|' ORDER BY seq) FROM fleet.log WHERE run_id = $second AND level = 'NOTICE'"), 'before plain|before notice', 'two parents: and the other one with its own');
is(second('SELECT count(*) FROM fleet.task_run'), '1', 'two parents: nothing else is seen there');
second('DROP EXTENSION pg_fleet CASCADE');
$f->parent->safe_psql('postgres', 'DROP DATABASE second');
$f->done(crashes => 1);
