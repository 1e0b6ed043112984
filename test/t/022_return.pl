# (runs long)
# An agent always comes back: terminated at any moment, failing again and again, after a crash, with
# no free worker slot, with and without preload.  From the termination on nobody asks for it: what is
# looked at are pg_stat_activity, the log of the server and plain tables of the catalog, by psql.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(witness => 0, streaming => 1, conf => "restart_after_crash = on\n");
my $node = $f->parent;

$f->define_stay;
my %oid = (dw => $f->sql(q{SELECT oid FROM pg_database WHERE datname = 'dw'}));

my $IS_AGENT = q{backend_type LIKE 'pg_fleet agent%'};

sub agents
{
    my ($db) = @_;
    return "SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT AND datname = " . quote_literal($db || 'dw');
}

# The agent that is at home (only one process can hold its lock), by nothing but the server's own views.
sub home
{
    my ($db) = @_;
    return q{SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory'
        AND l.objsubid = 18000 AND l.classid = 0 AND l.mode = 'ExclusiveLock' AND l.granted AND d.datname = } . quote_literal($db || 'dw');
}
my $STARTERS = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet starter'};

sub log_since { my ($from) = @_; return substr(slurp_file($node->logfile), $from); }
sub log_end { return -s $node->logfile; }
sub delays { my ($from, $db) = @_; return join ',', log_since($from) =~ /agent of database $oid{$db} ended soon after its start; the next one starts in (\d+) seconds/g; }
sub workers { my ($kind) = @_; return split /\n/, $f->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_fleet $kind'"); }

# Final and right, without a call of any function of ours.
sub ends
{
    my ($run, $key, $name) = @_;
    $f->wait_for('parent', "SELECT state >= 11 FROM fleet_catalog.run WHERE run_id = $run", 't', "$name: the run ends, and nobody has asked");
    is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'succeeded', "$name: it has succeeded");
    is($f->sql("SELECT count(*) FROM etl.done WHERE key = '$key'"), '1', "$name: its effect is there once");
    return;
}

sub begin
{
    my ($key) = @_;
    note "---- $key";
    my $run = $f->start('stay', "{\"key\": \"$key\"}");
    $f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%' AND query LIKE '%etl.stay%'}, '1', "$key: it works");
    return $run;
}
sub go { my ($key) = @_; $f->sql("INSERT INTO etl.go VALUES ('$key')"); return; }

sub terminate
{
    my ($name) = @_;
    my $pid = $f->sql(home());
    like($pid, qr/^\d+$/, "$name: an agent is at home");
    is($f->sql("SELECT pg_terminate_backend($pid)"), 't', "$name: it is terminated");
    return $pid;
}

# A second database.
$node->safe_psql('postgres', 'CREATE DATABASE dw2');
$node->safe_psql('dw2', 'CREATE EXTENSION pg_fleet');
$oid{dw2} = $f->sql(q{SELECT oid FROM pg_database WHERE datname = 'dw2'});
my $TWO = q{SELECT fleet.create_package('p'); SELECT fleet.add_task('p', 't', sql => 'SELECT 1'); SELECT fleet.run_parent_package('p')};
$node->safe_psql('dw2', $TWO);
$f->wait_for('parent', agents('dw2'), '1', 'the agent of a second database');

# ---- terminated 30 times, at any moment ---------------------------------------------------------

my $run = begin('thirty');
$f->point('parent', 'starter_before_delay', 'signals 1000');    # the delays are left out
my $hits = 0;
my $end = time + $FleetTest::PATIENCE;
while ($hits < 24 && time < $end)
{
    # whatever there is of them: at home, waiting, beginning, ending
    my $out = $f->sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE $IS_AGENT");
    $hits++ if $out > 0;
}
for my $point (qw(agent_moved_in agent_published agent_before_messages))
{
    for my $word (qw(exit error))
    {
        $f->point('parent', $point, $word);
        $f->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $IS_AGENT");
        $f->point_fired('parent', $point, "thirty: it ends at $point by $word");
        $hits++;
    }
}
is($hits, 30, 'thirty: agents were ended 30 times');
go('thirty');
ends($run, 'thirty', 'thirty');
$f->wait_for('parent', agents(), '1', 'thirty: one agent is there');
$f->point_release('parent', 'starter_before_delay');

# ---- an agent that fails again and again --------------------------------------------------------

note '---- delays';
$node->restart;    # no agent, and nothing is preloaded
is($f->sql(agents()), '0', 'without preload no agent comes after a restart');
my $from = log_end();
$f->point('parent', 'agent_moved_in', 'errors 9');
$f->point('parent', 'starter_before_delay', 'signals 1000');
$run = $f->start('plain', '{"key": "delays"}');
ends($run, 'delays', 'after nine failures');
my @failed = log_since($from) =~ /ERROR:  test point "agent_moved_in"/g;
is(scalar @failed, 9, 'nine agents failed');
is(delays($from, 'dw'), '1,2,4,8,16,30,30,30', 'the first restart is immediate, the next ones are delayed, 1 to 30 s');
$f->point_release('parent', 'starter_before_delay');

# The next delay is one of 30 s, and it is held: whoever asks, however often the latch is set.
$from = log_end();
terminate('delayed');
$f->wait_for('parent', $STARTERS, '1', 'delayed: a starter is there');
my ($starter) = workers('starter');
$f->wait_for('parent', agents(), '0', 'delayed: the agent has ended');
is(delays($from, 'dw'), '30', 'delayed: the log says for how long');
for my $i (1 .. 5)
{
    kill 'USR1', $starter;
    $run = $f->start('plain', "{\"key\": \"asked$i\"}");
}
is($f->sql("SELECT coalesce(fleet.wait_for_run($run, timeout => '2500ms'), 'none')"), 'none', 'delayed: requests and waits bring no agent before the delay is over');
$f->wait_for('parent', agents(), '0', 'delayed: nobody moved in');
is(join(',', workers('starter')), $starter, 'delayed: it is the same starter that waits');
# even if somebody ends that: it comes again
$f->point('parent', 'starter_before_delay', 'signal');
is($f->sql("SELECT pg_terminate_backend($starter)"), 't', 'delayed: the starter is terminated');
ends($run, 'asked5', 'delayed');
ends($run - 1, 'asked4', 'delayed');

# ---- who comes while another one begins or ends -------------------------------------------------

note '---- heirs';
$f->point('parent', 'starter_before_delay', 'signals 1000');
$f->point('parent', 'agent_moved_in', 'wait');
terminate('beginning');
$f->point_waits('parent', 'agent_moved_in', 'beginning: an agent is at home and not yet to be told anything');
$f->wait_for('parent', $STARTERS, '0', 'beginning: its starter is gone');
my @asked;
for my $i (1 .. 4)
{
    push @asked, $f->start('plain', "{\"key\": \"beginning$i\"}");
    $f->wait_for('parent', agents(), '2', "beginning: one more waits to be its heir, and no more than one ($i)");
}
$f->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $IS_AGENT AND pid IN (" . home() . ')');
ends($asked[$_], 'beginning' . ($_ + 1), "beginning $_") for 0 .. 3;
$f->wait_for('parent', agents(), '1', 'beginning: one agent is left');
$f->point_release('parent', 'agent_moved_in');

$f->point('parent', 'agent_before_hand_over', 'wait');
terminate('ending');
$f->point_waits('parent', 'agent_before_hand_over', 'ending: an agent has stopped to listen and still has its lock');
$run = $f->start('plain', '{"key": "ending"}');
$f->wait_for('parent', agents(), '2', 'ending: who was launched by a request waits to be its heir');
is($f->sql("SELECT count(*) FROM etl.done WHERE key = 'ending'"), '0', 'ending: nobody has done it yet');
$f->point_release('parent', 'agent_before_hand_over');
ends($run, 'ending', 'ending');

# the successor is there before its predecessor has gone, and does not take that for an agent
$f->point('parent', 'agent_after_hand_over', 'wait');
$run = begin('overlap');
my $old = terminate('overlap');
$f->point_waits('parent', 'agent_after_hand_over', 'overlap: an agent has handed over and still has its lock');
$f->point('parent', 'agent_waits_for_home', 'signal');
$f->point_fired('parent', 'agent_waits_for_home', 'overlap: its successor waits for that');
go('overlap');
$f->point_release('parent', 'agent_after_hand_over');
ends($run, 'overlap', 'overlap');
isnt($f->sql(home()), $old, 'overlap: by another agent');
$f->point_release('parent', 'starter_before_delay');

# ---- a crash, without preload -------------------------------------------------------------------

sub kill_a_backend
{
    my ($name) = @_;
    my ($in, $out, $err) = ('', '', '');
    my $session = IPC::Run::start(['psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-'], '<', \$in, '>', \$out, '2>', \$err);
    $in .= "SELECT pg_backend_pid();\n";
    $session->pump until $out =~ /\n/;
    my ($pid) = $out =~ /^(\d+)/;
    kill 'KILL', $pid;
    $in .= "SELECT 1;\n";
    eval { $session->finish };
    like($err, qr/connection|terminat/, "$name: a backend was killed");
    $f->wait_for('parent', 'SELECT true', 't', "$name: the server is back");
    return;
}

$node->safe_psql('dw2', q{SELECT fleet.run_parent_package('p')});
$f->wait_for('parent', agents('dw2'), '1', 'crash, not preloaded: the agent of the other database is there');
$run = begin('crash');
my $agents_before = $f->sql(home());
kill_a_backend('crash, not preloaded');
$f->wait_for('parent', agents(), '1', 'crash, not preloaded: the agent is back');
isnt($f->sql(home()), $agents_before, 'crash, not preloaded: it is another one');
$f->wait_for('parent', agents('dw2'), '1', 'crash, not preloaded: and so is the one of the other database');
go('crash');
ends($run, 'crash', 'crash, not preloaded');

# ---- preloaded ----------------------------------------------------------------------------------

note '---- preloaded';
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_fleet'");
$node->restart;
$f->wait_for('parent', agents(), '1', 'preloaded: the agent is there after a start');
$f->wait_for('parent', agents('dw2'), '1', 'preloaded: and the one of the other database');
# a database that nobody has asked anything yet
$node->safe_psql('postgres', 'CREATE DATABASE dw3');
$node->safe_psql('dw3', 'CREATE EXTENSION pg_fleet');
is($f->sql(agents('dw3')), '0', 'preloaded: a new database has no agent before somebody asks');
my ($launcher) = workers('launcher');
like($launcher, qr/^\d+$/, 'preloaded: the launcher stays');
$run = begin('preloaded');
kill_a_backend('crash, preloaded');
for my $db (qw(dw dw2 dw3))
{
    $f->wait_for('parent', agents($db), '1', "crash, preloaded: the agent of $db is back");
}
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet launcher' AND pid <> $launcher", '1', 'crash, preloaded: the launcher too');
# … and once more, by the death of the agent itself
$f->wait_for('parent', 'SELECT count(*) FROM (' . home() . ') AS h', '1', 'crash, preloaded: an agent is at home');
my $killed = $f->sql(home());
kill 'KILL', $killed;
$f->wait_for('parent', agents() . " AND pid <> $killed", '1', 'crash by its own agent, preloaded: an agent is back');
for my $db (qw(dw2 dw3))
{
    $f->wait_for('parent', agents($db), '1', "crash by the agent of dw, preloaded: the agent of $db is back");
}
$node->stop('immediate');
$node->start;
for my $db (qw(dw dw2 dw3))
{
    $f->wait_for('parent', agents($db), '1', "immediate stop, preloaded: the agent of $db is back");
}
go('preloaded');
ends($run, 'preloaded', 'crash and immediate stop, preloaded');

# ---- no worker slot is free ---------------------------------------------------------------------

note '---- slots';
# the launcher, the one of logical replication, three agents
$node->append_conf('postgresql.conf', 'max_worker_processes = 5');
$node->restart;
for my $db (qw(dw dw2 dw3))
{
    $f->wait_for('parent', agents($db), '1', "slots: the agent of $db is there");
}
$from = log_end();
$old = terminate('no slot');
$f->wait_for('parent', agents() . " AND pid <> $old", '1', 'no slot: an agent is back, by its own slot');
like(log_since($from), qr/no background worker slot is free to bring the agent of database $oid{dw} back/, 'no slot: the log says why it took a while');
# The same for one that leaves by itself, as DROP EXTENSION asks it to (SIGINT).
$old = $f->sql(home());
$f->sql('DO $$BEGIN BEGIN DROP EXTENSION pg_fleet CASCADE; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END$$');
$f->wait_for('parent', agents() . " AND pid <> $old", '1', 'no slot: after it left by itself, too, an agent is back');

# One slot is free; the starter has it, and loses the second one to somebody else.
$node->append_conf('postgresql.conf', 'max_worker_processes = 6');
$node->restart;
for my $db (qw(dw dw2 dw3))
{
    $f->wait_for('parent', agents($db), '1', "slots: the agent of $db is there again");
}
$from = log_end();
$f->point('parent', 'starter_after_delay', 'wait');
terminate('lost slot');
$f->point_waits('parent', 'starter_after_delay', 'lost slot: a starter waits');
$node->safe_psql('postgres', "CREATE EXTENSION pg_fleet; $TWO");
$f->wait_for('parent', agents('postgres'), '1', 'lost slot: the last slot is taken');
$f->point_release('parent', 'starter_after_delay');
my $log_line = qr/the agent of database $oid{dw} waits for a free background worker slot/;
$f->_wait_for_file(sub { log_since($from) =~ $log_line }, 'the starter says that it waits', 'lost slot: the starter waits for one');
$node->safe_psql('postgres', 'DROP EXTENSION pg_fleet CASCADE');
$f->wait_for('parent', agents(), '1', 'lost slot: when one is free, the agent comes');

# ---- an agent that has lived long ---------------------------------------------------------------

note '---- long';
$f->wait_for('parent', "SELECT now() - backend_start > '10 s' FROM pg_stat_activity WHERE $IS_AGENT AND datname = 'dw2'", 't', 'long: the agent of dw2 is older than 10 s');
$from = log_end();
$f->wait_for('parent', "SELECT count(*) FROM (" . home('dw2') . ') AS h', '1', 'long: it is at home');
($old) = $f->sql(home('dw2'));
$f->sql("SELECT pg_terminate_backend($old)");
$f->wait_for('parent', agents('dw2') . " AND pid <> $old", '1', 'long: its successor comes');
is(delays($from, 'dw2'), '', 'long: at once');

# ---- a database that is dropped -----------------------------------------------------------------

note '---- dropped';
$f->point('parent', 'starter_after_delay', 'wait');
$f->wait_for('parent', "SELECT count(*) FROM (" . home('dw2') . ') AS h', '1', 'dropped: the agent of dw2 is at home');
($old) = $f->sql(home('dw2'));
$f->sql("SELECT pg_terminate_backend($old)");
$f->point_waits('parent', 'starter_after_delay', 'dropped: a starter is about to bring the agent');
$node->safe_psql('postgres', 'DROP DATABASE dw2');
$node->safe_psql('postgres', 'DROP DATABASE dw3');
$from = log_end();
$f->point_release('parent', 'starter_after_delay');
$f->wait_for('parent', $STARTERS, '0', 'dropped: the starter ends');
unlike(log_since($from), qr/database $oid{dw2} does not exist/, 'dropped: nothing was launched for what is gone');
is($f->sql("SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT"), '1', 'dropped: the agents of both are gone, the other one is there');

# ---- a standby ----------------------------------------------------------------------------------

note '---- standby';
$run = begin('standby');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "shared_preload_libraries = ''\nlog_min_messages = debug1");
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('dw', "SELECT coalesce(fleet.wait_for_run($run, timeout => '2500ms'), 'none')"), 'none', 'standby: one can wait there');
$standby->promote;
is($standby->safe_psql('dw', agents()), '0', 'standby: no agent comes with the promotion');
my @registered = slurp_file($standby->logfile) =~ /registering background worker "pg_fleet/g;
is(scalar @registered, 0, 'standby: a wait there has registered no worker');
$standby->stop('immediate');
go('standby');
ends($run, 'standby', 'standby');

$f->done(crashes => 1);
