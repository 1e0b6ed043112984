# Events: what is raised, once, whatever the agent does meanwhile; who sees it, and what whoever listens sees; lines of the
# server's log; what goes with history.  (test build)
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $log = $f->parent->logfile;

# Kinds, tasks and items since an event, in their order.
my $since = 0;
sub mark { $since = $f->sql('SELECT coalesce(max(event_id), 0) FROM fleet.event'); return; }
my $raised = q{SELECT string_agg(concat_ws(' ', kind, task || coalesce('[' || item || ']', ''), server), ', ' ORDER BY event_id) FROM fleet.event WHERE event_id > };
sub raised { return $raised . $since; }
sub of_run { my ($run) = @_; return raised() . " AND run_id = $run"; }

is($f->sql(q{SELECT kind FROM fleet.event ORDER BY event_id LIMIT 1}), '', 'without an agent nothing happens');

# ---- runs and tasks ----------------------------------------------------------------------------

$f->job('far', 'SELECT etl.work()');
$f->package('well', -params => '{"key": "well"}', a => { job => 'far', server => 'a1' }, d => { job => 'far', server => 'd1' }, n => { sql => 'SELECT 1' });
my $run = $f->start('well');
$f->run_is($run, 'succeeded', 'a run');
is($f->sql(of_run($run)), 'run_started, run_succeeded', 'that succeeds: its begin and its end, and nothing of its tasks');
is($f->sql(q{SELECT count(*) FROM fleet.event WHERE kind = 'agent_started'}), '1', 'the agent has begun');

$f->package('inner', i => { sql => q{SELECT 1 / 0} });
$f->job('bad', { name => 's', sql => 'SELECT 1 / 0' });
$f->package('ill', r => { sql => 'SELECT 1 / 0', retries => 1, retry_wait => '10ms', retry_sqlstates => '{22012}' }, d => { job => 'bad', server => 'd1' },
    f => { sql => q{SELECT 1 / (2 - fleet.param('i')::int)}, for_each => 'SELECT i FROM generate_series(1, 3) AS i', after => '{}' }, n => { nested => 'inner' });
mark();
$run = $f->start('ill');
$f->run_is($run, 'failed', 'a run that fails');
my @all = split /, /, $f->sql(of_run($run));
is($all[0], 'run_started', 'begins');
is($all[-1], 'run_failed', '… and fails');
is(join(', ', sort @all[ 1 .. $#all - 1 ]), 'task_failed d d1, task_failed f, task_failed f[2], task_failed n, task_failed r, task_retried r',
    '… and between these each failure is told once: of a task and its retry, on a server, of an item and its for_each, of a nested run');
is($f->sql("SELECT sqlstate || ' ' || message || ' ' || package FROM fleet.event WHERE run_id = $run AND kind = 'task_failed' AND task = 'd'"),
    '22012 division by zero ill', 'with SQLSTATE, message and package');
is($f->sql(raised() . q{ AND package = 'inner'}), 'task_failed i', 'a nested run tells of its tasks, and is no run of its own');
is($f->sql("SELECT message FROM fleet.event WHERE run_id = $run AND kind = 'run_failed'"), $f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), 'the run says why');

# an agent that ends before the commit has told nobody: its successor tells it, once
$f->package('cut', t => { sql => 'SELECT 1 / 0' });
mark();
$f->point('parent', 'agent_before_commit', 'exit 3');
$run = $f->start('cut');
$f->run_is($run, 'failed', 'the agent ends on the way');
is($f->sql(of_run($run)), 'run_started, task_failed t, run_failed', 'each is there once');

$f->package('stop', t => { sql => 'SELECT pg_sleep(600)' });
$run = $f->start('stop');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'a task runs');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'is canceled');
is($f->sql(of_run($run)), 'run_started, run_canceled', 'the cancel is an event');

$run = $f->sql(q{SELECT fleet.run_parent_package('stop', deadline => now() + interval '1 second')});
$f->wait_for('parent', "SELECT count(*) FROM fleet.event WHERE run_id = $run AND kind = 'run_late'", '1', 'a run is late');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'late, and canceled');

# ---- who sees it -------------------------------------------------------------------------------

$f->sql(q{CREATE ROLE alice LOGIN; CREATE ROLE reads LOGIN; GRANT fleet_reader TO reads});
$run = $f->sql_as('etl', q{SELECT fleet.create_package('hers'); SELECT fleet.add_task('hers', 'secret task', sql => 'SELECT 1 / 0'); SELECT fleet.run_parent_package('hers')});
($run) = $run =~ /(\d+)\s*\z/;
$f->run_is($run, 'failed', 'a run of another role');
my $of_it = "SELECT count(*) FROM fleet.event WHERE run_id = $run";
is($f->sql_as('etl', $of_it), '3', 'who owns a run sees its events');
is($f->sql_as('alice', $of_it), '0', 'another role does not');
is($f->sql_as('reads', $of_it), '3', 'a reader does');
is($f->sql_as('etl', q{SELECT count(*) FROM fleet.event WHERE package = 'ill'}), '0', 'and none of the others');
ok($f->sql_as('alice', q{SELECT count(*) > 0 FROM fleet.event WHERE kind = 'agent_started'}), 'of the agent everybody may know');

# ---- whoever listens ---------------------------------------------------------------------------

my $ear = FleetTest::Session->new($f->parent, $FleetTest::DB, 'alice');
$ear->sql('LISTEN fleet_event');
sub heard
{
    my ($wanted, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $text = '';
    for (1 .. 1800)
    {
        $text .= $ear->say('SELECT pg_sleep(0.1)') . "\n";
        last if $text =~ $wanted;
    }
    like($text, $wanted, $name);
    return $text;
}
$run = $f->sql_as('etl', q{SELECT fleet.run_parent_package('hers')});
my $heard = heard(qr/"run_failed", "run_id": $run\b/, 'a role that may see nothing of it hears of a run');
unlike($heard, qr/secret|hers|zero/, '… by its number, and no name or text');
my @payloads = $heard =~ /fleet_event" with payload "(.*)" received/g;
ok(!(grep { $f->sql('SELECT jsonb_typeof(' . FleetTest::quote_literal($_) . "::jsonb -> 'events')") ne 'array' } @payloads), 'as JSON');

# many in one turn: one NOTIFY that fits, and the rest is in the view
$f->package('flood', t => { sql => 'SELECT 1 / 0', for_each => 'SELECT i FROM generate_series(1, 500) AS i' });
$run = $f->start('flood');
$f->run_is($run, 'failed', '500 items fail');
$heard = heard(qr/"run_failed", "run_id": $run\b|"more": true/, 'which is heard of');
is((sort { $b <=> $a } map { length } $heard =~ /with payload "(.*)" received/g)[0] < 7168 ? 'short' : 'long', 'short', 'no payload is longer than 7 kB');
is($f->sql("SELECT count(*) FROM fleet.event WHERE run_id = $run AND kind = 'task_failed' AND item > 0"), '500', 'each has a row');

# no room in the queue: the NOTIFY waits, the rows do not
$f->point('parent', 'notify_queue_full', 'signals 2');
$run = $f->start('cut');
$f->run_is($run, 'failed', 'with a full queue of notifications a run ends');
is($f->sql($of_it =~ s/\d+\z/$run/r), '3', '… and has its events');
heard(qr/"run_failed", "run_id": $run\b/, '… of which a listener hears when there is room');

# ---- servers -----------------------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    note "---- $server";
    $f->package("on $server", t => { job => 'far', server => $server, params => qq({"key": "$server"}) });
    mark();
    $f->run_is($f->start("on $server"), 'succeeded', 'a run there');
    $f->node($server)->stop;
    $run = $f->start("on $server");
    $f->wait_for('parent', raised() . qq{ AND server = '$server' AND run_id IS NULL}, "server_suspect $server", 'it does not answer');
    $f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
    $f->wait_for('parent', "SELECT count(*) FROM fleet.event WHERE event_id > $since AND kind = 'agent_started'", '1', 'another agent begins');
    $f->node($server)->start;
    $f->wait_for('parent', raised() . qq{ AND server = '$server' AND run_id IS NULL}, "server_suspect $server, server_back $server", 'it is back: told once, whatever the agent');
    $f->run_is($run, 'succeeded', 'and the run has ended');
    mark();
    $f->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS (SET password 'wrong')");
    $run = $f->start("on $server");
    # (a change of the mapping ends its connections, too)
    my $refusals = raised() . qq{ AND server = '$server' AND run_id IS NULL AND kind <> 'server_suspect'};
    $f->wait_for('parent', $refusals, "server_auth_failed $server", 'it refuses the password');
    is($f->sql("SELECT state FROM fleet.server_status WHERE server = '$server'"), 'auth_failed', '… which is a state of its own');
    is($f->sql("SELECT sqlstate FROM fleet.event WHERE event_id > $since AND kind = 'server_auth_failed'"), '28P01', '… with its SQLSTATE');
    $f->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS (SET password 'etl-secret')");
    $f->wait_for('parent', $refusals, "server_auth_failed $server, server_back $server", 'with the right one it is back');
    is($f->sql("SELECT state FROM fleet.server_status WHERE server = '$server'"), 'online', '… and online');
}
is($f->sql_as('alice', q{SELECT count(*) FROM fleet.event WHERE server IS NOT NULL}), '0', 'who may use no server sees none of that');
$f->sql('GRANT USAGE ON FOREIGN SERVER d1 TO alice');
is($f->sql_as('alice', q{SELECT string_agg(DISTINCT server || coalesce(' ' || message, ''), ',') FROM fleet.event WHERE server IS NOT NULL}), 'd1', 'who may use one sees how it was, and not what it said');

# ---- schedules ---------------------------------------------------------------------------------

mark();
$f->sql(q{SELECT fleet.schedule_package('well', '0 3 * * *', missed => 'skip', time_zone => 'UTC', name => 'nightly')});
$f->sql(q{UPDATE fleet_catalog.schedule SET since = now() - interval '2 days'; SELECT fleet_catalog.wake('schedules', 0)});
$f->wait_for('parent', raised() . q{ AND kind LIKE 'schedule%'}, 'schedule_missed', 'a schedule has missed its time');
like($f->sql(q{SELECT message FROM fleet.event WHERE kind = 'schedule_missed'}), qr/^schedule "nightly" missed \d{4}-\d\d-\d\d 03:00:00/, '… which it says');
my $told = q{SELECT count(*) FROM fleet.event WHERE kind = 'schedule_missed'};
my $agent = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', "SELECT count(*) FROM fleet.agent_status() WHERE running AND pid <> $agent", '1', 'another agent comes');
$f->run_is($f->start('well'), 'succeeded', '… and works');
is($f->sql($told), '1', '… and does not tell again what was told');
$f->sql(q{UPDATE fleet_catalog.event SET raised_at = now() - interval '1 day 12 hours' WHERE kind = 'schedule_missed'});
$agent = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', $told, '2', '… but what was missed since then');
$f->sql(q{SELECT fleet.unschedule_package('well')});

# ---- the server's log --------------------------------------------------------------------------

my $text = slurp_file($log);
like($text, qr/LOG:  task failed: division by zero\n.*DETAIL:  SQLSTATE: 22012\n.*CONTEXT:  package "ill", run \d+, task "d", server "d1"/, 'a failure is a line of the log, with where it was');
like($text, qr/LOG:  run failed: task .*\n.*CONTEXT:  package "ill", run \d+\n/, '… and so is the run');
like($text, qr/LOG:  server suspect: .*(?:\n.*)*?CONTEXT:  server "d1"/, '… and a server');
unlike($text, qr/LOG:  (?:run started|run succeeded|task retried)/, 'what goes well is none');
cmp_ok(scalar(() = $text =~ /task failed: .*\n.*\n.*package "flood"/g), '<', 500, 'of very many failures at once the log has some');
like($text, qr/LOG:  \d+ more events are in fleet\.event only/, '… and says how many it has not');
sub log_events
{
    my ($value) = @_;
    $f->sql(qq{ALTER SYSTEM SET fleet.log_events = '$value'});
    $f->sql('SELECT pg_reload_conf()');
    $f->wait_for('parent', 'SHOW fleet.log_events', $value, "fleet.log_events = $value");
    $f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
    my $from = -s $log;
    $f->run_is($f->start('cut'), 'failed', 'a run fails');
    return substr slurp_file($log), $from;
}
unlike(log_events('off'), qr/LOG:  (?:task|run) failed/, 'off: nothing');
like(log_events('all'), qr/LOG:  run started\n(?:.*\n)*.*LOG:  task failed(?:.*\n)*.*LOG:  run failed/, 'all: everything');
$f->sql('ALTER SYSTEM RESET fleet.log_events');
$f->sql('SELECT pg_reload_conf()');

# ---- a trigger of an administrator -------------------------------------------------------------

$f->sql(q{CREATE FUNCTION public.no_event() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no events today''; END';
    CREATE TRIGGER no_event BEFORE INSERT ON fleet_catalog.event FOR EACH ROW EXECUTE FUNCTION public.no_event()});
my $pid = $f->agent_pid;
$run = $f->start('cut');
$f->run_is($run, 'failed', 'events cannot be stored: a run ends as it does');
is($f->agent_pid, $pid, '… under the same agent');
like(slurp_file($log), qr/LOG:  \d+ events? could not be stored: no events today/, '… and the log says so');
$f->sql('DROP TRIGGER no_event ON fleet_catalog.event');

# ---- history -----------------------------------------------------------------------------------

$run = $f->start('cut');
$f->run_is($run, 'failed', 'a run');
$f->sql(q{UPDATE fleet_catalog.event SET raised_at = raised_at - interval '91 days' WHERE kind IN ('agent_started', 'run_failed')});
my $purged = 'SELECT (SELECT count(*) FROM fleet_catalog.purge_request) + (SELECT count(*) FROM fleet_catalog.purged)';
$f->sql('SELECT fleet.purge()');
$f->wait_for('parent', $purged, '0', 'a purge');
is($f->sql(q{SELECT count(*) FROM fleet.event WHERE kind = 'agent_started' AND raised_at < now() - interval '90 days'}), '0', 'old events of no run go');
isnt($f->sql(q{SELECT count(*) FROM fleet.event WHERE kind = 'run_failed'}), '0', 'those of a run stay with it');
isnt($f->sql(q{SELECT count(*) FROM fleet.event WHERE kind = 'server_back'}), '0', 'others stay');
$f->sql("UPDATE fleet_catalog.run SET queued_at = queued_at - interval '91 days', finished_at = finished_at - interval '91 days' WHERE run_id = $run");
mark();
$f->sql('SELECT fleet.purge()');
$f->wait_for('parent', $purged, '0', 'a purge of a run');
is($f->sql("SELECT count(*) FROM fleet_catalog.event WHERE run_id = $run"), '0', 'its events go with it');
$f->wait_for('parent', raised(), 'purge_done', 'and that is an event');

$f->done;
