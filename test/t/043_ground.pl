# The agent's own ground: what the server around it does to it.  A signal that is meant for no agent, a
# library that reads the connection of a session that has none, triggers that an administrator put on our
# tables: none of it ends a step, a process or a cluster, and none of it leaks.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $IS_AGENT = q{backend_type = 'pg_fleet agent' AND datname = 'dw'};

sub log_end { my ($node) = @_; return -s $f->node($node)->logfile; }
sub log_since { my ($node, $offset) = @_; return slurp_file($f->node($node)->logfile, $offset); }
sub same_agent
{
    my ($old, $after) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($f->agent_pid, $old, "the same agent after $after");
}
# A step that cannot be done twice, here and over a session of mode direct: (job run here, run of a package).
sub hold
{
    my ($key) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @held = ($f->sql("SELECT fleet.start_job('in two', params => '{\"key\": \"$key\"}')"), $f->start('held', "{\"key\": \"$key\"}"));
    $f->wait_started($key, 2);
    return @held;
}
sub held_is
{
    my ($job_run, $run, $state, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $f->wait_for('parent', "SELECT string_agg(state || ' ' || attempt, ', ') FROM fleet.step_run WHERE job_run_id = $job_run OR run_id = $run", "$state 1, $state 1", $name);
}

# ---- signals -----------------------------------------------------------------------------------
#
# DROP EXTENSION makes the agent leave by a SIGINT, as the server sends it to a process like autovacuum
# that is in somebody's way.  Anybody else's SIGINT means nothing to it.

for my $node (qw(parent d1))
{
    $f->sql_on($node, <<'SQL');
SET ROLE etl;
CREATE PROCEDURE etl.in_two() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.work_until_released();
    COMMIT;
END $$;
SQL
}
$f->job('in two', { sql => 'CALL etl.in_two()', transactional => 'false' });
$f->package('tick', t => { sql => 'SELECT 1' });
$f->package('held', -params => '{"key": null}', there => { job => 'in two', server => 'd1' });

my $run;
my @held = hold('signals');
my $agent = $f->agent_pid;
is($f->sql("SELECT pg_cancel_backend($agent)"), 't', 'an administrator sends the agent a SIGINT');
$f->run_is($f->start('tick'), 'succeeded', 'it has heard it, and works');
same_agent($agent, 'a SIGINT');

# What REINDEX waits for, and the deadlock check of its session finds: our commit takes its time.
my $from = log_end('parent');
$f->point('parent', 'agent_before_commit', 'wait');
my $tick = $f->start('tick');
$f->point_waits('parent', 'agent_before_commit', 'the agent has rows that it has not committed');
my $reindex = $f->parent->background_psql($FleetTest::DB);
$reindex->query_until(qr/begins/, "\\echo begins\nSET log_lock_waits = on;\nREINDEX TABLE fleet_catalog.task_run;\n\\echo has ended\n");
$f->_wait_for_file(sub { log_since('parent', $from) =~ /still waiting for ShareLock on relation/ }, 'the deadlock check of REINDEX', 'REINDEX waits for the agent, and the server has sent it a SIGINT');
$f->point_release('parent', 'agent_before_commit');
$reindex->query_until(qr/has ended/, '');
$reindex->quit;
$f->run_is($tick, 'succeeded', 'the commit is done, and REINDEX');
same_agent($agent, 'REINDEX');
$f->release('signals');
held_is(@held, 'succeeded', 'the steps that ran meanwhile succeed in their first attempt');

# VACUUM FULL wants the very table that DROP EXTENSION wants.
@held = hold('vacuumed');
$f->sql('VACUUM FULL fleet_catalog.sentinel');
$f->run_is($f->start('tick'), 'succeeded', 'VACUUM FULL of the table that the agent keeps locked: it works on');
same_agent($agent, 'VACUUM FULL');
$f->release('vacuumed');
held_is(@held, 'succeeded', 'steps that ran meanwhile succeed');

# It is not deaf: DROP EXTENSION has it leave, and what it runs ends.  (Rolled back, so that this can be seen.)
@held = hold('dropped');
$f->sql('DO $$BEGIN BEGIN DROP EXTENSION pg_fleet CASCADE; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END$$');
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT AND pid <> $agent", '1', 'DROP EXTENSION: the agent leaves, and one comes when it was rolled back');
held_is(@held, 'unknown', 'what could not be done twice ends with it, as unknown');

# ---- libraries that read the session's connection ----------------------------------------------

# A runner has none; what asks for it in a step is answered as in a session over a local socket.
for my $node (qw(parent a1)) { $f->sql_on($node, 'CREATE EXTENSION sslinfo SCHEMA public'); }
my $asked = join q{ || ' ' || }, map { "coalesce(($_)::text, 'null')" }
  'public.ssl_is_used()', 'public.ssl_version()', 'public.ssl_cipher()', 'public.ssl_client_cert_present()', 'public.ssl_client_serial()',
  q{public.ssl_client_dn_field('CN')}, q{public.ssl_issuer_field('CN')}, 'public.ssl_client_dn()', 'public.ssl_issuer_dn()',
  'inet_client_addr()', 'inet_client_port()', 'inet_server_addr()', 'inet_server_port()',
  '(SELECT count(*) FROM public.ssl_extension_info())', '(SELECT a.client_addr FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid())';
my $local = $f->parent->safe_psql($FleetTest::DB, "SELECT $asked");
$f->job('asks', "SELECT $asked");
$f->package('asks', here => { sql => "SELECT $asked" }, there => { job => 'asks', server => 'a1' });
$run = $f->start('asks');
$f->run_is($run, 'succeeded', 'all that sslinfo and the server tell of a connection, asked in runners');
is($f->sql("SELECT string_agg(task || ': ' || output, ', ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run"), "here: $local, there: $local", '… as in a local session');
$f->sql(q{ALTER SYSTEM SET log_line_prefix = '%m [%p] %q%a %b %u@%d %h %r '; SELECT pg_reload_conf()});
$f->package('speaks', t => { sql => q{DO $$BEGIN RAISE LOG 'the runner speaks'; END$$} });
$from = log_end('parent');
my $line = qr/pg_fleet runner pg_fleet runner postgres\@dw \[local\] \[local\] LOG:  the runner speaks/;
# again, if the runner has not heard of the new prefix yet
$f->_wait_for_file(sub { $f->wait_run($f->start('speaks')) eq 'succeeded' && log_since('parent', $from) =~ $line }, 'a line with the new prefix',
    'a step writes to the log of the server, whose prefix says who it is and where from');
$f->sql('ALTER SYSTEM RESET log_line_prefix; SELECT pg_reload_conf()');

# ---- no shared memory --------------------------------------------------------------------------

# /dev/shm is full when a runner is to be started: it starts later.
$f->sql(q{CREATE ROLE newcomer LOGIN; SET ROLE newcomer; SELECT fleet.create_package('first'); SELECT fleet.add_task('first', 't', sql => 'SELECT 1')});
$agent = $f->agent_pid;
$from = log_end('parent');
$f->point('parent', 'dsm_create', 'errors 2');
$f->run_is($f->start('first'), 'succeeded', 'no shared memory for a runner: the step waits until there is some');
$f->point_fired('parent', 'dsm_create', 'it was tried again');
same_agent($agent, 'there was no shared memory');
is(() = log_since('parent', $from) =~ /no shared memory segment can be created/g, 1, 'the log says so, once');

# The same for its names, and when an agent comes: requests are taken, and it begins when there is some.
$f->point('parent', 'dsm_create', 'errors 1000');
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT AND pid <> $agent", '1', 'no shared memory for a new agent');
$agent = $f->agent_pid;
my $starts = $f->sql('SELECT starts FROM fleet_catalog.agent');
$run = $f->start('tick');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'queued', 'a session may request a run meanwhile');
is($f->sql("SELECT fleet.cancel_run($run)"), 't', '… and cancel it');
$run = $f->start('tick');
$f->point_release('parent', 'dsm_create');
$f->run_is($run, 'succeeded', 'when there is some, the agent begins');
same_agent($agent, 'it had to wait');
is($f->sql('SELECT starts FROM fleet_catalog.agent'), $starts + 1, '… which did not end in between');

# ---- the queue of notifications is full ---------------------------------------------------------

# The agent of a server stores what has happened all the same, and tells its parents when there is room.
$f->job('noop', 'SELECT 1');
$f->package('there', t => { job => 'noop', server => 'a1' });
sub ends_there_unheard
{
    my ($what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->point('a1', 'notify_queue_full', 'signals 100000');
    my $run = $f->start('there');
    $f->wait_for('a1', q{SELECT count(*) FROM fleet.job_run WHERE job = 'noop' AND state = 'succeeded' AND acknowledged_at IS NULL}, '1', "$what: the job ends, and that is stored");
    is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', "$what: its parent has not heard of it");
    return $run;
}
my $there = $f->agent_pid('a1');
$from = log_end('a1');
$run = ends_there_unheard('no room for notifications');
$f->point_release('a1', 'notify_queue_full');
$f->run_is($run, 'succeeded', 'when there is room again, it hears of it');
is($f->agent_pid('a1'), $there, '… from the same agent');
like(log_since('a1', $from), qr/the queue of notifications is full/, '… which said in the log why it did not tell');
# What is lost with the agent that wanted to tell it, the parent asks for by itself.
$run = ends_there_unheard('lost');
$f->sql_on('a1', "SELECT pg_terminate_backend($there)");
$f->wait_for('a1', "SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT AND pid <> $there", '1', 'lost: that agent ends');
$f->point_release('a1', 'notify_queue_full');
$f->point('parent', 'link_looks_again', 'signal');
$f->run_is($run, 'succeeded', 'lost: the parent looks after what is silent');

# ---- triggers on our tables --------------------------------------------------------------------

for my $node (qw(parent a1))
{
    $f->sql_on($node, <<'SQL');
CREATE TABLE public.fired (what text);
GRANT ALL ON public.fired TO PUBLIC;
CREATE FUNCTION public.fired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.fired VALUES (concat_ws(' ', TG_TABLE_NAME, TG_WHEN, TG_LEVEL, TG_OP, TG_NAME));
    RETURN NEW;
END $$;
DO $$
DECLARE
    t text;
BEGIN
    FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'fleet_catalog'::regnamespace AND relkind = 'r' AND relname <> 'sentinel' LOOP
        EXECUTE format('CREATE TRIGGER before BEFORE INSERT OR UPDATE ON fleet_catalog.%I FOR EACH ROW EXECUTE FUNCTION public.fired()', t);
        EXECUTE format('CREATE TRIGGER after AFTER INSERT OR UPDATE ON fleet_catalog.%I FOR EACH ROW EXECUTE FUNCTION public.fired()', t);
        EXECUTE format('CREATE TRIGGER statement AFTER INSERT OR UPDATE ON fleet_catalog.%I FOR EACH STATEMENT EXECUTE FUNCTION public.fired()', t);
        EXECUTE format('CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON fleet_catalog.%I DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.fired()', t);
        EXECUTE format('ALTER TABLE fleet_catalog.%I ENABLE ROW LEVEL SECURITY', t);
    END LOOP;
END $$;
SQL
}
$f->sql(q{CREATE TABLE public.refers (run_id bigint REFERENCES fleet_catalog.run); ALTER TABLE fleet_catalog.run ADD COLUMN twice bigint GENERATED ALWAYS AS (run_id * 2) STORED});
$f->job('with lines', q{DO $$BEGIN RAISE NOTICE 'a line'; END$$});
$f->package('triggers', here => { sql => 'SELECT 1' }, agent => { job => 'with lines', server => 'a1' }, direct => { job => 'with lines', server => 'd1' });
$agent = $f->agent_pid;
$run = $f->start('triggers');
$f->run_is($run, 'succeeded', 'triggers, a foreign key and a generated column of an administrator are on our tables: a run succeeds');
is($f->sql("SELECT twice = 2 * run_id FROM fleet_catalog.run WHERE run_id = $run"), 't', '… the column has its value');
for my $table ([ 'parent', qw(run task_run step_run log_line) ], [ 'a1', qw(job_run step_run log_line) ])
{
    my ($node, @tables) = @$table;
    for my $t (@tables)
    {
        $f->wait_for($node, qq{SELECT string_agg(DISTINCT what, ', ') FROM public.fired WHERE what LIKE '$t % ROW %' AND what LIKE '% INSERT %'},
            "$t AFTER ROW INSERT after, $t AFTER ROW INSERT late, $t BEFORE ROW INSERT before", "$node: the triggers for rows of $t have fired");
    }
}
same_agent($agent, 'triggers on our tables');
$f->sql('DROP TABLE public.refers');

$f->done;
