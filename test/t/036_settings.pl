# Settings that the owner of a database, or of a role, gives to all who log in (ALTER DATABASE … SET,
# ALTER ROLE … SET) do not reach the processes of pg_fleet's own, however odd they are: on the
# parent and on a server of mode agent.  They do reach steps, as they would in psql.  Settings of pg_fleet follow
# a reload.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0, conf => "restart_after_crash = on\n");

# All that change what a statement means, whether it may be executed, or how long it may take.
my %odd = (
    role => 'odd_role', session_authorization => 'odd_role', session_replication_role => 'replica', row_security => 'on', search_path => 'odd, pg_catalog',
    default_transaction_read_only => 'on', default_transaction_isolation => 'serializable', default_transaction_deferrable => 'on',
    statement_timeout => '1ms', lock_timeout => '1ms', idle_in_transaction_session_timeout => '1ms', idle_session_timeout => '1s',
    exit_on_error => 'on', synchronous_commit => 'off', client_encoding => 'SQL_ASCII', client_min_messages => 'error',
    quote_all_identifiers => 'on', standard_conforming_strings => 'off', escape_string_warning => 'on', backslash_quote => 'off',
    array_nulls => 'off', transform_null_equals => 'on', xmloption => 'document', xmlbinary => 'hex', bytea_output => 'escape',
    extra_float_digits => '-15', DateStyle => 'German, DMY', IntervalStyle => 'sql_standard', TimeZone => 'Pacific/Chatham',
    default_tablespace => '', temp_tablespaces => '', default_table_access_method => 'heap', default_toast_compression => 'pglz',
    check_function_bodies => 'off', constraint_exclusion => 'off', force_parallel_mode => 'regress', max_parallel_workers_per_gather => '8',
    parallel_setup_cost => '0', parallel_tuple_cost => '0', min_parallel_table_scan_size => '0', min_parallel_index_scan_size => '0',
    jit => 'on', jit_above_cost => '0', plan_cache_mode => 'force_custom_plan', from_collapse_limit => '1', join_collapse_limit => '1',
    geqo_threshold => '2', work_mem => '64kB', cursor_tuple_fraction => '1', random_page_cost => '1000', seq_page_cost => '0', cpu_index_tuple_cost => '1000',
    (map { ("enable_$_" => 'off') } qw(indexscan indexonlyscan bitmapscan nestloop sort hashagg material memoize tidscan)),
    stats_fetch_consistency => 'snapshot',
    'plpgsql.extra_errors' => 'all', application_name => 'odd');

# ALTER … SET of all of them, for those who log in from now on.
sub odd_settings
{
    my ($target) = @_;
    return join "\n", map { "ALTER $target SET $_ TO " . ($_ =~ /search_path|_tablespace/ ? $odd{$_} || "''" : quote_literal($odd{$_})) . ';' } sort keys %odd;
}

sub end_agent
{
    my ($node) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $starts = $f->sql_on($node, 'SELECT starts FROM fleet_catalog.agent');
    my $pid = $f->agent_pid($node);
    $f->sql_on($node, "SELECT pg_terminate_backend($pid)") if $pid;
    $f->wait_for($node, "SELECT starts > $starts FROM fleet_catalog.agent", 't', "$node: a new agent is there") if $pid;
    return;
}

$f->job('answer', { sql => 'SELECT 42', name => 'one' }, { sql => 'SELECT 43', name => 'two' });
$f->job('fails', 'SELECT 1/0');
$f->package('inner', t => { sql => 'SELECT 5' });
$f->package('all',
    here => { sql => 'SELECT 1' },
    each => { sql => 'SELECT 2', for_each => q{SELECT jsonb_build_object('i', i) FROM generate_series(1, 3) AS i} },
    agent => { job => 'answer', server => 'a1' },
    direct => { job => 'answer', server => 'd1' },
    group => { job => 'answer', on_group => 'all', for_each => q{SELECT jsonb_build_object('i', i) FROM generate_series(1, 4) AS i} },
    nested => { nested => 'inner', after => '{here}' },
    bad => { job => 'fails', server => 'a1' },
    last => { sql => 'SELECT 3', after => '{nested}' });
$f->sql(q{SELECT fleet.add_precedence('all', 'bad', 'last', on_outcome => 'failure', condition => '1 = 1')});
# They are etl's.
$f->sql("UPDATE fleet_catalog.$_ SET owner = 'etl'::regrole") for qw(job package);
$f->sql("GRANT USAGE ON FOREIGN SERVER $_ TO etl; CREATE USER MAPPING FOR etl SERVER $_ OPTIONS (user 'etl', password '$FleetTest::PASSWORD')") for qw(a1 d1);
my $TASKS = q{agent succeeded 43, bad failed 22012, direct succeeded 43, each succeeded 2, each succeeded 2, each succeeded 2, group succeeded 43, group succeeded 43, group succeeded 43, group succeeded 43, here succeeded 1, last succeeded 3, nested succeeded};

sub all_is_well
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %starts = map { $_ => $f->sql_on($_, 'SELECT starts FROM fleet_catalog.agent') } qw(parent a1);
    my $run = $f->sql(q{SET ROLE etl; SELECT fleet.run_parent_package('all')});
    $f->run_is($run, 'succeeded', "$name: a run of every kind of task");
    is($f->sql("SELECT string_agg(concat_ws(' ', task, state, sqlstate, CASE WHEN task <> 'nested' THEN output END), ', ' ORDER BY task, item) FROM fleet.task_run WHERE run_id = $run AND (item > 0 OR task NOT IN ('each', 'group'))"),
        $TASKS, "$name: every task ended as it should");
    is($f->sql_on($_, 'SELECT starts FROM fleet_catalog.agent'), $starts{$_}, "$name: $_: its agent is still the same") for qw(parent a1);
    return;
}

all_is_well('as usual');

# Steps run as etl, and a role's settings go before a database's: so they may do what they have to.
my @STEPS = qw(role exit_on_error statement_timeout idle_session_timeout idle_in_transaction_session_timeout lock_timeout search_path);
for my $node (qw(parent a1 d1))
{
    $f->sql_on($node, 'CREATE ROLE odd_role');
    my $me = $f->sql_on($node, 'SELECT current_user');
    $f->sql_on($node, odd_settings('DATABASE dw'));
    $f->sql_on($node, odd_settings("ROLE $me IN DATABASE dw"));
    $f->sql_on($node, odd_settings('ROLE ALL'));
    $f->sql_on($node, join "\n", map { "ALTER ROLE etl IN DATABASE dw SET $_ TO DEFAULT; ALTER ROLE etl IN DATABASE dw SET $_ TO " . ({ role => 'none', exit_on_error => 'off', search_path => 'public' }->{$_} || '0') . ';' } @STEPS);
}
end_agent($_) for qw(parent a1);
all_is_well('odd settings');
for my $node (qw(parent a1 d1))
{
    my $me = $f->sql_on($node, 'SELECT current_user');
    $f->sql_on($node, "ALTER ROLE ALL RESET ALL; ALTER DATABASE dw RESET ALL; ALTER ROLE $me IN DATABASE dw RESET ALL; ALTER ROLE etl IN DATABASE dw RESET ALL");
}

# ---- what was stored before something was sent is there after a crash ---------------------------

$f->sql("ALTER SYSTEM SET synchronous_commit = off");
$f->sql('SELECT pg_reload_conf()');
for my $where ('the configuration', 'the database')
{
    $f->sql('ALTER DATABASE dw SET synchronous_commit = off') if $where eq 'the database';
    my $starts = $f->sql('SELECT starts FROM fleet_catalog.agent');
    $f->point('parent', 'agent_published', 'kill');
    $f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
    $f->point_fired('parent', 'agent_published', "$where wants no durable commits: the server crashes right after a commit of the agent");
    $f->wait_for('parent', 'SELECT starts > ' . ($starts + 1) . ' FROM fleet_catalog.agent', 't', '… and what it committed is there: the next agent counts on');
    $f->wait_for('parent', 'SELECT count(*) FROM pg_stat_activity AS s JOIN fleet_catalog.agent AS a ON s.pid = a.pid', '1', 'the agent is back');
}
$f->sql('ALTER SYSTEM RESET synchronous_commit');
$f->sql('ALTER DATABASE dw RESET synchronous_commit');

# ---- settings of pg_fleet follow a reload -------------------------------------------------------

$f->sql(q{CREATE TABLE etl.go (key text); GRANT ALL ON etl.go TO etl});
$f->package('stay', -params => '{"key": null}', t => { sql => q{DO $$BEGIN WHILE NOT EXISTS (SELECT FROM etl.go WHERE key = fleet.param('key')) LOOP PERFORM pg_sleep(0.02); END LOOP; END$$} });
sub configure
{
    my ($name, $value) = @_;
    $f->sql("LOAD 'pg_fleet'");
    $f->sql("ALTER SYSTEM SET $name = $value");
    $f->sql('SELECT pg_reload_conf()');
    return;
}
sub begin { my ($key) = @_; return $f->start('stay', qq({"key": "$key"})); }
sub state_is { my ($run, $state, $name) = @_; return $f->wait_for('parent', "SELECT string_agg(state, ' ') FROM (SELECT state FROM fleet.run WHERE run_id = $run UNION ALL SELECT state FROM fleet.task_run WHERE run_id = $run) AS s", $state, $name); }
my $runners = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%'};
my $pid = $f->agent_pid;

configure('fleet.max_active_runs', 1);
my @run = (begin('a'));
state_is($run[0], 'running running', 'one run is at work');
push @run, begin('b');
is($f->sql("SELECT coalesce(fleet.wait_for_run($run[1], timeout => '100ms'), 'none') || ' ' || (SELECT state FROM fleet.run WHERE run_id = $run[1])"), 'none queued', 'fleet.max_active_runs: the second one waits');
configure('fleet.max_runners', 1);
configure('fleet.max_active_runs', 5);
state_is($run[1], 'running queued', '… and begins when there may be more of them, but fleet.max_runners lets no step of it begin');
configure('fleet.max_runners', 5);
state_is($run[1], 'running running', '… until there may be more of those');
$f->sql(q{INSERT INTO etl.go VALUES ('a'), ('b')});
$f->run_is($_, 'succeeded', 'they end') for @run;
isnt($f->sql($runners), '0', 'runners wait for work');
configure('fleet.runner_idle_timeout', 0);
$f->wait_for('parent', $runners, '0', 'fleet.runner_idle_timeout: no longer');
is($f->agent_pid, $pid, 'all of it by the same agent');

# ---- waits that are longer than an int has milliseconds (24.8 days) ------------------------------

configure('fleet.runner_idle_timeout', q{'24d'});
$f->package('patient', t => { sql => q{SELECT 1}, timeout => '9 years' });
$f->run_is($f->start('patient'), 'succeeded', 'a timeout of years');
my $run = begin('years');
my $waiter = $f->parent->background_psql($FleetTest::DB);
$waiter->query_until(qr/waiting/, "\\echo waiting\nSELECT fleet.wait_for_run($run, timeout => '49 days 17:02:47.5');\n\\echo done\n");
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%wait_for_run%49 days%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()}, '1', 'a session waits for years');
$f->sql(q{INSERT INTO etl.go VALUES ('years')});
$f->run_is($run, 'succeeded', 'the run ends');
$waiter->quit;
$f->done(crashes => 1);
