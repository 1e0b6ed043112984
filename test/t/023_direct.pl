# Mode direct: what a job on a server without pg_fleet gives and leaves; cancel at each moment;
# connections that notice the loss of the other side; a server that is lost.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use File::Basename;
use Test::More;

# One slot each: a job meets the session that the one before has left.
my $f = FleetTest->new(direct => 2, proxy => 1, slots => 1);
my $proxy = $f->proxy;
for my $server (qw(parent d1))
{
    $f->sql_on($server, <<'SQL');
SET ROLE etl;
CREATE FUNCTION etl.talk() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'said % in %', etl.key(), current_setting('fleet.params')::jsonb ->> 'region' USING ERRCODE = '01F02', DETAIL = 'a detail', HINT = 'a hint';
    RAISE WARNING 'without more';
    RAISE EXCEPTION 'it failed' USING ERRCODE = 'ZX123', DETAIL = 'the detail', HINT = 'the hint';
END $$;
-- an error with any code, at COMMIT
CREATE TABLE etl.late (code text);
CREATE FUNCTION etl.late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('late');
    RAISE EXCEPTION 'late' USING ERRCODE = NEW.code;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON etl.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION etl.late();
SQL
}

# A job that is silent for longer than any answer may take runs all the time on d2.
$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('work', 'SELECT etl.work()');
for my $server (qw(d1 d2))
{
    $f->package("hold_$server", -params => '{"key": null}', t => { job => 'hold', server => $server });
    $f->package("work_$server", -params => '{"key": null}', t => { job => 'work', server => $server });
}
my $silent = $f->start('hold_d2', '{"key": "silent"}');

sub started { my ($key, $n) = @_; return $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key = '$key'", $n || '1', "$key: it runs"); }
sub task { my ($run) = @_; return $f->sql("SELECT concat_ws(' ', state, attempt, server, sqlstate, message) FROM fleet.task_run WHERE run_id = $run"); }
started('silent');

# ---- what it gives -----------------------------------------------------------------------------

my $n = 0;

# state, then SQLSTATE, message, detail, hint; row count; value
sub gives
{
    my ($name, $command, $expected, %opt) = @_;
    my $job = 'gives_' . ++$n;
    $f->job($job, { sql => $command, check_syntax => 'false' });
    $f->sql("SELECT fleet.alter_job('$job', leaves_clean => true)") if $opt{leaves_clean};
    $f->package($job, -params => '{"key": null, "region": "north"}', t => { job => $job, server => 'd1' });
    my $run = $f->start($job, "{\"key\": \"$job\"}");
    $f->run_is($run, (split /\|/, $expected)[0], "$name: it ends");
    is($f->sql("SELECT concat_ws('|', state, sqlstate, message, detail, hint, coalesce(row_count::text, '-'), coalesce(output, '-')) FROM fleet.step_run WHERE run_id = $run"),
        $expected, $name);
    return $run;
}

gives('a value is the first column of the first row', q{SELECT v, 2 FROM (VALUES ('one'), ('two')) AS x(v)}, 'succeeded|2|one');
gives('NULL is no value', 'SELECT NULL::int', 'succeeded|1|-');
gives('no row, no value', 'SELECT 1 WHERE false', 'succeeded|0|-');
gives('a count of rows', 'INSERT INTO etl.effect SELECT i::text FROM generate_series(1, 25) AS i', 'succeeded|25|-');
gives('a utility statement has neither', 'SET LOCAL work_mem TO 1024', 'succeeded|-|-');
gives('of several statements the last one counts', q{SELECT 'first'; UPDATE etl.effect SET key = 'x' WHERE key IN ('1', '2', '3') RETURNING key || key}, 'succeeded|3|xx');
gives('parameters, and what a quote or a backslash is', q{SELECT concat(current_setting('fleet.params')::jsonb ->> 'region', $$'\$$)}, q{succeeded|1|north'\\});
gives('parameters outside of a query', q{DO $$BEGIN IF current_setting('fleet.params')::jsonb ->> 'region' <> 'north' THEN RAISE 'no'; END IF; END$$}, 'succeeded|-|-');
gives('several statements are one transaction: if one fails, none stays', q{INSERT INTO etl.effect VALUES ('none'); SELECT 1/0}, 'failed|22012|division by zero|-|-');
is($f->effects('d1', 'none'), 0, 'none stays');
gives('a text that begins with SET TRANSACTION', q{SET TRANSACTION ISOLATION LEVEL SERIALIZABLE}, 'succeeded|-|-');

my $run = gives('an error with all that it says', 'SELECT etl.talk()', 'failed|ZX123|it failed|the detail|the hint|-|-');
is($f->sql("SELECT context FROM fleet.step_run WHERE run_id = $run"), 'PL/pgSQL function talk() line 5 at RAISE', 'and its context');
is($f->sql("SELECT string_agg(concat_ws('|', level, sqlstate, message, detail, hint, context), E'\\n' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND level IN ('NOTICE', 'WARNING')"),
    "NOTICE|01F02|said gives_$n in north|a detail|a hint|PL/pgSQL function talk() line 3 at RAISE\n"
      . 'WARNING|01000|without more|PL/pgSQL function talk() line 4 at RAISE', 'lines of the log with all that was raised');

my $copy = 'failed|0A000|COPY FROM STDIN and COPY TO STDOUT are not possible in a step|Copy from or to a file on the server.|-|-';
gives("refused: $_", $_, $copy)
  for 'COPY etl.effect TO STDOUT', 'COPY etl.effect FROM STDIN', 'SELECT 1; COPY etl.effect TO STDOUT; INSERT INTO etl.effect VALUES (\'none\')',
  '/* hidden */ COPY etl.effect FROM STDIN';
is($f->effects('d1', 'none'), 0, 'nothing of a text with a COPY stays');

gives('what cannot be in a transaction is run outside of one', 'VACUUM etl.effect', 'succeeded|-|-');
gives('it has parameters as well', q{DO $$BEGIN INSERT INTO etl.effect VALUES (etl.key()); COMMIT; END$$}, 'succeeded|-|-');
is($f->effects('d1', "gives_$n"), 1, 'once, with its parameters');
gives('and nobody finds them afterwards', q{SELECT current_setting('fleet.params')}, qq({"key": "gives_@{[$n + 1]}", "region": "north"}) =~ s/^/succeeded|1|/r);

# What a job leaves in its session is seen by its next steps, and by no other job.
gives('a setting is left', q{SELECT set_config('my.own', 'left', false)}, 'succeeded|1|left');
gives('the next job does not see it', q{SELECT coalesce(nullif(current_setting('my.own', true), ''), 'none')}, 'succeeded|1|none');
gives('a job that says that it leaves nothing is taken at its word', q{SELECT set_config('my.own', 'left', false)}, 'succeeded|1|left', leaves_clean => 1);
gives('its session is not reset', q{SELECT coalesce(nullif(current_setting('my.own', true), ''), 'none')}, 'succeeded|1|left');
gives('after another job it is', q{SELECT coalesce(nullif(current_setting('my.own', true), ''), 'none')}, 'succeeded|1|none');
for my $time (1 .. 3)
{
    gives("$time: another job leaves something", q{SELECT set_config('my.own', 'left', false)}, 'succeeded|1|left');
    gives("$time: its session is reset, as it did not say that it leaves nothing", q{SELECT coalesce(nullif(current_setting('my.own', true), ''), 'none')}, 'succeeded|1|none');
}

# ---- errors that only COMMIT finds -------------------------------------------------------------

# 25001 and 2D000 from the command mean "not in a transaction": from COMMIT they are errors
for my $code (qw(25001 2D000 23505))
{
    $f->job("late_$code", "INSERT INTO etl.late VALUES ('$code')");
    $f->package("late_$code", -params => '{"key": null}',
        d1   => { job => "late_$code", server => 'd1' },
        here => { sql => "INSERT INTO etl.late VALUES ('$code')" });
    my $key = "late-$code";
    $run = $f->start("late_$code", "{\"key\": \"$key\"}");
    $f->run_is($run, 'failed', "$code at COMMIT: the run fails");
    is($f->sql("SELECT string_agg(concat_ws(' ', task, attempt, state, sqlstate, message), ', ' ORDER BY task) FROM fleet.job_log WHERE run_id = $run"),
        "d1 1 failed $code late, here 1 failed $code late", "$code at COMMIT is an error of the step, in both places");
    is($f->sql_on('witness', "SELECT string_agg(server, ' ' ORDER BY server) FROM event WHERE key = '$key' AND what = 'late'"), 'd1 parent', "$code at COMMIT: nothing was done twice");
    is($f->sql_on($_, 'SELECT count(*) FROM etl.late'), 0, "$code at COMMIT: nothing stays on $_") for qw(d1 parent);
}

# ---- cancel ------------------------------------------------------------------------------------

sub cancel { my ($run, $name) = @_; return is($f->sql("SELECT fleet.cancel_run($run)"), 't', "$name: the cancel is taken"); }

my $first = $f->start('hold_d1', '{"key": "running"}');
started('running');
# another unit has no session yet
$run = $f->start('work_d1', '{"key": "waiting"}');
cancel($run, 'waiting');
$f->run_is($run, 'canceled', 'waiting: canceled');
is(task($run), 'canceled 0', 'waiting: the task never began');
cancel($first, 'running');
$f->run_is($first, 'canceled', 'running: canceled');
is(task($first), 'canceled 1 d1 57014 canceling statement due to user request', 'running: the task says why');
is($f->sql_on('d1', q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%' AND (state = 'active' OR xact_start IS NOT NULL)}), '0', 'running: canceled means stopped');
is($f->effects('d1', 'running') . $f->witnessed('running', 'end'), '00', 'running: no effect, no end');

# its command has succeeded: COMMIT decides
$f->point('parent', 'step_before_send_commit', 'wait');
$run = $f->start('work_d1', '{"key": "prepared"}');
$f->point_waits('parent', 'step_before_send_commit', 'prepared: the id is stored');
cancel($run, 'prepared');
$f->point_release('parent', 'step_before_send_commit');
is($f->wait_run($run), 'succeeded', 'prepared: too late to cancel');
is(task($run) . $f->effects('d1', 'prepared') . $f->witnessed('prepared', 'start'), 'succeeded 1 d111', 'prepared: it is committed, once');

$proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
$run = $f->start('work_d1', '{"key": "committed"}');
ok($proxy->fired('d1'), 'committed: COMMIT is done, its answer on its way');
cancel($run, 'committed');
$proxy->ctl('allow', 'd1');
is($f->wait_run($run), 'succeeded', 'committed: too late to cancel');
is(task($run) . $f->effects('d1', 'committed') . $f->witnessed('committed', 'start'), 'succeeded 1 d111', 'committed: it is committed, once');

# ---- connections -------------------------------------------------------------------------------

sub sockets
{
    my ($server) = @_;
    my ($pid, $port) = ($f->agent_pid, $f->port_of($server));
    my $script = dirname(__FILE__) . '/../proxy/sockopts.py';
    return scalar `/usr/bin/python3 $script $pid $port`;
}
SKIP:
{
    my $is = sockets('d1');
    skip "descriptors of another process: $is", 2 if $is =~ /^not possible/;
    is((split /\n/, $is)[0], '1 5 2 2 10000', 'keepalives after 5 s, every 2 s, twice; tcp_user_timeout 10 s');
    $f->sql(sprintf 'SELECT fleet.add_server(%s, %s, username => %s, password => %s, mode => %s)',
        map { quote_literal($_) } 'slow', $f->conninfo('d2') . ' keepalives_idle=31 keepalives_interval=32 keepalives_count=3 tcp_user_timeout=34000', 'etl', $FleetTest::PASSWORD, 'direct');
    $f->package('slow', -params => '{"key": "slow"}', t => { job => 'work', server => 'slow' });
    $f->run_is($f->start('slow'), 'succeeded', 'a server with options of its own');
    like(sockets('d2'), qr/^1 31 32 3 34000$/m, 'options of the server come before the defaults');
}
is($f->sql_on('d1', q{SELECT string_agg(DISTINCT application_name ~ '^pg_fleet [0-9a-f]{8} [0-9]+$' || ' ' || usename, ',') FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%'}),
    'true etl', 'a session says whose it is, and is the mapping\'s user');

# ---- the agent's predecessor -------------------------------------------------------------------

# Its session goes on over there; it is ended before the step is done again.
$f->job('alone', q{SELECT etl.witness('others ' || count(*)) FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%' AND query LIKE '%work_until_released%' AND state = 'active' AND pid <> pg_backend_pid();
    SELECT etl.work_until_released()});
$f->package('alone', -params => '{"key": null}', t => { job => 'alone', server => 'd1' });
$run = $f->start('alone', '{"key": "alone"}');
started('alone');
my $pid = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($pid)");
started('alone', 2);
is($f->sql_on('witness', q{SELECT string_agg(what, ', ' ORDER BY id) FROM event WHERE key = 'alone' AND what LIKE 'others%'}), 'others 0, others 0',
    'when a step is done again the session of its first try is gone');
$f->release('alone');
$f->run_is($run, 'succeeded', 'alone: it ends');
is($f->effects('d1', 'alone') . $f->witnessed('alone', 'end'), '11', 'alone: once');

# ---- a server that is lost ---------------------------------------------------------------------

# what never started there goes to another member of its group; d2 is busy until its job is released
$f->sql(sprintf 'SELECT fleet.add_server(%s, %s, username => %s, password => %s, mode => %s, groups => %s)',
    map { quote_literal($_) } 'free', $f->conninfo('d2'), 'etl', $FleetTest::PASSWORD, 'direct', '{pair}');
$f->sql(q{SELECT fleet.set_server_state('free', 'draining')});
$f->sql(sprintf 'SELECT fleet.add_server(%s, %s, username => %s, password => %s, mode => %s, groups => %s)',
    map { quote_literal($_) } 'away', $f->conninfo('d1'), 'etl', $FleetTest::PASSWORD, 'direct', '{pair}');
$f->package('pair', -params => '{"key": null}', t => { job => 'work', on_group => 'pair' });
$f->package('pair_hold', -params => '{"key": null}', t => { job => 'hold', on_group => 'pair' });
# one that runs on "away", and stays its
my $held = $f->start('pair_hold', '{"key": "held"}');
started('held');
is($f->sql("SELECT server FROM fleet.task_run WHERE run_id = $held"), 'away', 'held: it runs there');
$proxy->ctl('refuse', 'd1');
$f->wait_for('parent', q{SELECT state FROM fleet.server_status WHERE server = 'away'}, 'suspect', 'the server does not answer');
$f->sql(q{SELECT fleet.set_server_state('free', 'online')});
$run = $f->start('pair', '{"key": "moved"}');
$f->run_is($run, 'succeeded', 'moved: what never started there is done by another member, while the server is away');
is(task($run) . $f->effects('d2', 'moved') . $f->witnessed('moved', 'start'), 'succeeded 1 free11', 'moved: there, once');
is($f->witnessed('held', 'start'), 1, 'held: what did start is not started elsewhere');
$proxy->ctl('allow', 'd1');
started('held', 2);
is($f->sql_on('witness', q{SELECT string_agg(DISTINCT server, ',') FROM event WHERE key = 'held'}), 'd1', 'held: it is done again where it was, once that server can tell');
$f->release('held');
$f->run_is($held, 'succeeded', 'held: it ends');
is($f->effects('d1', 'held') . $f->effects('d2', 'held'), '10', 'held: one effect');

# ---- silence -----------------------------------------------------------------------------------

# The answer to COMMIT does not come: after 10 s the connection is given up, and the id is asked about.
$proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
$run = $f->start('work_d1', '{"key": "silence"}');
ok($proxy->fired('d1'), 'silence: COMMIT is done, its answer does not come');
$f->wait_for('parent', q{SELECT last_error FROM fleet.server_status WHERE server = 'd1'}, 'the server has not answered to COMMIT for 10 seconds', 'silence: it is noticed');
is(task($run), 'running 1 d1', 'silence: the task is not final before its fate is known');
$proxy->ctl('allow', 'd1');
$f->run_is($run, 'succeeded', 'silence: then it is known');
is($f->effects('d1', 'silence') . $f->witnessed('silence', 'start'), '11', 'silence: once');

# The silent job of d2 was asked about more than once, and left alone.
$f->wait_for('d2', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%' AND query LIKE 'SELECT state FROM pg_catalog.pg_stat_get_activity%'}, 't',
    'a session that is silent is asked about');
$f->release('silent');
$f->run_is($silent, 'succeeded', 'a job that is silent for long is left alone');
is($f->witnessed('silent', 'start'), 2, 'and was started once by each of the two agents');

# ---- a server that does not come back in time -------------------------------------------------

$f->parent->append_conf('postgresql.conf', "fleet.lost_after = '1s'");
$f->parent->reload;
$pid = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid AND datname = 'dw'", '1', 'an agent that loses sooner');
$run = $f->start('hold_d1', '{"key": "lost"}');
started('lost');
$proxy->ctl('refuse', 'd1');
$f->run_is($run, 'failed', 'lost: the run fails');
is(task($run), 'lost 1 d1 08006 its server did not come back within fleet.lost_after', 'lost: the task is lost, and says why');
is($f->sql("SELECT concat_ws(' ', state, attempt, server, sqlstate, message) FROM fleet.job_log WHERE run_id = $run"), task($run), 'lost: so does its step');
$proxy->ctl('allow', 'd1');
$f->run_is($f->start('work_d1', '{"key": "back"}'), 'succeeded', 'lost: when it is back it is used');
is($f->witnessed('lost', 'start'), 1, 'lost: what was lost is not done again');
$f->release('lost');

$f->done;
