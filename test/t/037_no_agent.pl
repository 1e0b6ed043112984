# While there is no agent: why, and from when on there is one, can be seen; what drops, closes or renames
# the database meanwhile is not delayed, and finds no worker of ours left; who waits for a run goes on
# waiting while no worker slot is free, and over the promotion of a standby.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(witness => 0, streaming => 1, conf => "max_logical_replication_workers = 0\nmax_worker_processes = 3\nfleet.runner_idle_timeout = 0\nhot_standby = on\n");
my $node = $f->parent;
my $RUNNERS = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%'};
my $STARTERS = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet starter'};
my $AGENTS = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'};
my $WAKE = q{SELECT fleet_catalog.wake('servers', 0)};

sub log_since { my ($from) = @_; return substr(slurp_file($node->logfile), $from); }
sub in { my ($db, $sql) = @_; my ($rc, $out, $err) = $f->kept('parent', $db)->run($sql); die "$db: $sql: $err" if $rc; return $out; }

# Agents fail until the next one is 30 seconds away; the starter that waits for that.
sub nobody_for_long
{
    my ($db, $name, $skip) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->point('parent', 'agent_moved_in', 'errors 1000');
    # those of 0, 1, 2, 4, 8 and 16 s are left out
    $f->point('parent', 'starter_before_delay', 'signals 6') if $skip;
    in($db, $skip ? $WAKE : q{SELECT pg_terminate_backend(pid) FROM fleet.agent_status()});
    $f->point_fired('parent', 'starter_before_delay', "$name: agents fail, one after the other");
    $f->wait_for('parent', "$STARTERS AND query LIKE 'starts the agent%' AND (regexp_match(query, ' at (\\S+ \\S+);'))[1]::timestamptz > now() + '20 s'", '1', "$name: agents have failed, and the next one comes in half a minute");
    return in($db, 'SELECT next_start_at FROM fleet.agent_status()');
}
sub still_before { my ($time, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return is($f->sql("SELECT clock_timestamp() < '$time'"), 't', $name); }

$f->define_stay;

# ---- why there is none, and until when ----------------------------------------------------------

my $from = -s $node->logfile;
my $next = nobody_for_long('dw', 'status', 1);
is($f->sql(q{SELECT running || ' ' || last_sqlstate || ' ' || last_error || ' ' || (last_error_at BETWEEN now() - interval '1 min' AND now()) || ' ' || (next_start_at - last_error_at > '20 s') FROM fleet.agent_status()}),
    'false XX000 test point "agent_moved_in" true true', 'fleet.agent_status() says by what the last one ended, and when the next one starts');
like($f->sql(q{SELECT query FROM pg_stat_activity WHERE backend_type = 'pg_fleet starter'}), qr/^starts the agent of database \d+ at \S+ \S+; the last one ended at \S+ \S+ by XX000: test point "agent_moved_in"$/, 'so does pg_stat_activity');
like(log_since($from), qr/the next one starts in 30 seconds\n.*DETAIL:  It ended with SQLSTATE XX000: test point "agent_moved_in"/, 'and the server log');
my $REASON = q{SELECT no_agent_reason FROM fleet.agent_status()};
like($f->sql($REASON), qr/^The last one ended by XX000: test point "agent_moved_in"\. The next one starts at \S+ \S+\.$/, '… in a sentence too');
my ($rc, $out, $err) = $f->try_as(undef, q{SELECT fleet.run_parent_package('plain', params => '{"key": "nobody"}')});
like($err, qr/WARNING: .*there is no agent of pg_fleet now\nDETAIL:  The last one ended by XX000: test point "agent_moved_in"/, 'who requests something is told so');
like(($f->try_as(undef, "SELECT fleet.wait_for_run($out, '2 s')"))[2], qr/WARNING: .*there is no agent of pg_fleet now\nDETAIL:  The last one ended by XX000/, '… and who waits for it');
is($f->sql(q{SET ROLE etl; SELECT last_sqlstate IS NOT NULL AND next_start_at IS NOT NULL FROM fleet.agent_status()}), 't', 'any role may know it');

# ---- DROP EXTENSION -----------------------------------------------------------------------------

# taken back: the agent comes, at once
$f->point_release('parent', 'agent_moved_in');
my $session = $node->background_psql('dw');
$session->query_safe('BEGIN; DROP EXTENSION pg_fleet');
$session->query_safe('ROLLBACK');
$session->quit;
$f->wait_for('parent', 'SELECT running FROM fleet.agent_status()', 't', 'DROP EXTENSION that is rolled back: an agent comes');
still_before($next, '… and not as late as it was to come without that');
is($f->sql(q{SELECT last_sqlstate || ' ' || last_error || ' ' || coalesce(next_start_at::text, 'none') || ' ' || (starts > 0) FROM fleet.agent_status()}), 'XX000 test point "agent_moved_in" none true', 'fleet.agent_status() still knows by what the last one ended');
$f->run_is($f->start('plain', '{"key": "after"}'), 'succeeded', 'it works');

$next = nobody_for_long('dw', 'DROP EXTENSION', 0);
$f->point_release('parent', 'agent_moved_in');
$f->sql('DROP EXTENSION pg_fleet CASCADE');
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet%' AND backend_type NOT LIKE '%runner%'}, '0', 'DROP EXTENSION: no worker is left');
still_before($next, '… and none had to wait for the delay');
$f->sql('CREATE EXTENSION pg_fleet');
$f->define_stay;
$f->run_is($f->start('plain', '{"key": "anew"}'), 'succeeded', 'made anew, it works at once');
still_before($next, '… before that delay is over');

# ---- DROP DATABASE, ALLOW_CONNECTIONS, RENAME ---------------------------------------------------

sub other_database { my ($name) = @_; $node->safe_psql('postgres', "CREATE DATABASE $name"); in($name, 'CREATE EXTENSION pg_fleet'); return; }
sub close_sessions { my ($db) = @_; (delete $f->{kept}{ $node->name . " $db" })->close; return; }

$f->wait_for('parent', $RUNNERS, '0', 'DROP DATABASE: slots are free');
other_database('dw2');
$next = nobody_for_long('dw2', 'DROP DATABASE', 1);
close_sessions('dw2');
$node->safe_psql('postgres', 'DROP DATABASE dw2');
$f->wait_for('parent', $STARTERS, '0', 'DROP DATABASE: the starter is gone');
still_before($next, '… and has not waited for its delay');
$f->point_release('parent', 'agent_moved_in');

other_database('dw3');
in('dw3', $WAKE);
$f->wait_for('parent', "$AGENTS AND datname = 'dw3'", '1', 'closed: a database with an agent');
close_sessions('dw3');
$from = -s $node->logfile;
$node->safe_psql('postgres', 'ALTER DATABASE dw3 ALLOW_CONNECTIONS false');
$f->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw3'});
$f->_wait_for_file(sub { log_since($from) =~ /waits until the database allows connections/ }, 'the starter says that it waits', 'closed: its next agent waits until it allows connections, and says so');
$node->safe_psql('postgres', 'ALTER DATABASE dw3 RENAME TO dw4');
$f->wait_for('parent', $STARTERS, '1', 'closed: it still waits');
$node->safe_psql('postgres', 'ALTER DATABASE dw4 ALLOW_CONNECTIONS true');
$f->wait_for('parent', "$AGENTS AND datname = 'dw4'", '1', 'closed, renamed and opened again: the agent comes, and nobody has asked');
is(in('dw4', q{SELECT last_sqlstate || ' ' || running FROM fleet.agent_status()}), '57P01 true', 'closed: it knows that the last one was terminated');

# ---- no worker slot is free when somebody asks --------------------------------------------------

$node->restart;
$f->forget('parent');
for my $db (qw(dw4 dw5 dw6))
{
    other_database($db) if $db ne 'dw4';
    in($db, $WAKE);
    $f->wait_for('parent', "$AGENTS AND datname = '$db'", '1', "slots: the agent of $db is there");
}
is($f->sql($REASON), 'No background worker slot is free: max_worker_processes is 3.', 'slots: fleet.agent_status() says why there is none');
($rc, $out, $err) = $f->try_as(undef, q{SELECT fleet.run_parent_package('plain', params => '{"key": "slots"}')});
like($err, qr/WARNING: .*no background worker slot is free/, 'slots: the request is stored, with a warning');
my $run = $out;
$session = $node->background_psql('dw', on_error_stop => 1);
$session->query_until(qr/waiting/, "\\echo waiting\nSELECT 'it has ' || fleet.wait_for_run($run);\n\\echo waited\n");
$f->_wait_for_file(sub { log_since($from) =~ /WARNING:  the agent of pg_fleet could not be started.*?DETAIL:  The wait goes on/s }, 'the warning', 'slots: who waits for a run goes on waiting, and is told why');
for my $db (qw(dw5 dw6))
{
    close_sessions($db);
    $node->safe_psql('postgres', "DROP DATABASE $db");
}
like($session->query_until(qr/waited/, ''), qr/it has succeeded/, 'slots: … and brings the agent when some are free');
is($f->sql("$REASON WHERE running"), '', 'slots: … of which nothing is to be said');
$session->quit;

# ---- a standby that is promoted while somebody waits there --------------------------------------

close_sessions('dw4');
$node->safe_psql('postgres', 'DROP DATABASE dw4');
$run = $f->start('stay', '{"key": "promoted"}');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'promoted: a run is at work');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'log_min_messages = debug1');
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('dw', 'SELECT running FROM fleet.agent_status()'), 'f', 'promoted: fleet.agent_status() answers on a standby');
$session = $standby->background_psql('dw');
$session->query_until(qr/waiting/, "\\echo waiting\nSELECT 'it has ' || fleet.wait_for_run($run);\n\\echo waited\n");
ok($standby->poll_query_until('dw', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%wait_for_run%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()}), 'promoted: a session waits on the standby');
$f->forget('parent');
$node->stop('immediate');
is($standby->safe_psql('dw', $REASON), 'This server is a standby, where nothing can be written: the agent is on the primary.', 'promoted: on a standby, fleet.agent_status() says why there is none');
ok($standby->wait_for_log(qr/WARNING:  there is no agent of pg_fleet now\n.*DETAIL:  This server is a standby/), 'promoted: … and who waits there is told');
unlike(slurp_file($standby->logfile), qr/registering background worker "pg_fleet/, 'promoted: no worker was registered on the standby');
$standby->promote;
$standby->safe_psql('dw', q{INSERT INTO etl.go VALUES ('promoted')});
like($session->query_until(qr/waited/, ''), qr/it has succeeded/, 'promoted: its wait brings the agent, and sees the run end');
is($standby->safe_psql('dw', q{SELECT count(*) FROM etl.done WHERE key = 'promoted'}), '1', 'promoted: one effect');
$session->quit;
$f->{nodes}{parent} = $standby;
$f->done(crashes => 1);
