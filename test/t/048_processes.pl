# Processes that must not outlive what they serve, and that must not come where they have nothing to do:
# resolvers end with their agent and with the postmaster, however those end; on a standby no function, called
# by whatever role, registers a worker, and what cannot be done there is an ERROR that says so.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0, streaming => 1, conf => "hot_standby = on\nrestart_after_crash = on\n");
my $node = $f->parent;

# ---- resolvers ----------------------------------------------------------------------------------

# The postmaster's children, or all of its orphans: by their title and data directory.
my %seen;
sub resolvers
{
    for my $pid (eval { $f->processes('parent') })
    {
        $seen{$pid} = 1 if (eval { slurp_file("/proc/$pid/cmdline") } // '') =~ /pg_fleet resolver/;
    }
    return grep { (eval { slurp_file("/proc/$_/cmdline") } // '') =~ /pg_fleet resolver/ && (eval { slurp_file("/proc/$_/stat") } // '') !~ /^\d+ \(.*\) Z/ } keys %seen;
}
sub no_resolver
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $f->_wait_for_file(sub { !resolvers() }, 'no resolver is left', $name);
}
# Until then its memory and its lock files keep another postmaster out.
sub all_gone
{
    my ($name, @pids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $f->_wait_for_file(sub { !grep { kill 0, $_ } @pids }, 'all processes have gone', $name);
}

$f->job('noop', 'SELECT 1');
$f->sql(sprintf q{SELECT fleet.add_server('named', 'host=localhost port=%d dbname=%s sslmode=disable', username => 'etl', password => '%s', mode => 'direct')},
    $f->node('d1')->port, $FleetTest::DB, $FleetTest::PASSWORD);
$f->package('on named', t => { job => 'noop', server => 'named' });
$f->package('here', t => { sql => 'SELECT 1' });

# An agent that is left without its postmaster still tells its resolvers to go; one that is killed does not.
for my $end ('the agent is killed', 'the postmaster is killed', 'both are killed')
{
    for my $busy (0, 1)
    {
        my $what = $end . ($busy ? ' while a name is being looked up' : ' while its resolver waits for names');
        my $run;
        $f->point('parent', 'resolver_looks_up', 'wait') if $busy;
        $run = $f->start('on named');
        if ($busy) { $f->point_waits('parent', 'resolver_looks_up', "$what: it hangs in the look-up"); }
        else { $f->run_is($run, 'succeeded', "$what: a server with a name works"); }
        my @resolvers = resolvers();
        cmp_ok(scalar @resolvers, '>', 0, "$what: there is a resolver");
        my ($postmaster, @children) = $f->processes('parent');
        my $agent = $f->agent_pid;
        $f->forget('parent');
        if ($end =~ /^the agent/)
        {
            kill 'KILL', $agent;
            no_resolver("$what: the resolver ends");
            ok($node->poll_query_until('postgres', 'SELECT true'), "$what: the cluster is there again");
        }
        else
        {
            kill 'KILL', $postmaster, $end =~ /^both/ ? $agent : ();
            all_gone("$what: nothing of the cluster is left", $postmaster, @children, @resolvers);
            is(scalar resolvers(), 0, "$what: no resolver either");
            $node->{_pid} = undef;
            $node->start;
        }
        $f->point_release('parent', 'resolver_looks_up');
        $f->run_is($f->start('here'), 'succeeded', "$what: the next agent works");
        $f->run_is($run, 'succeeded', "$what: and so does the run that waited for the name") if $busy;
    }
}

# ---- a standby ----------------------------------------------------------------------------------

$f->sql(q{CREATE ROLE operator LOGIN IN ROLE fleet_operator; CREATE ROLE stranger LOGIN; CREATE ROLE reader LOGIN IN ROLE fleet_reader});
$f->run_is(my $ended = $f->start('on named'), 'succeeded', 'there is a run that has ended');
$f->package('waits', t => { sql => 'SELECT pg_advisory_xact_lock_shared(4801)' });
my $lock = $node->background_psql('dw');
$lock->query_safe('SELECT pg_advisory_lock(4801)');
my $open = $f->start('waits');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $open", 'running', 'and one that is open');
$node->backup('copy');
my %standby;
for my $preload ('', 'pg_fleet')
{
    my $name = $preload ? 'preloaded' : 'standby';
    my $s = $standby{$name} = PostgreSQL::Test::Cluster->new($name);
    $s->init_from_backup($node, 'copy', has_streaming => 1);
    $s->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\nlog_min_messages = debug1\n");
    $s->start;
    $node->wait_for_catchup($s);
}

# A call of each function, with nulls where nothing else is said: most are refused before they look at
# their arguments, and what reads answers.
my %argument = (
    'fleet.run_parent_package' => q{'here'}, 'fleet.start_job' => q{'noop'}, 'fleet.deploy_job' => q{'noop', on_group => 'agents'}, 'fleet.undeploy_job' => q{'noop', on_group => 'agents'},
    'fleet.cancel_run' => $open, 'fleet.wait_for_run' => "$open, '50 ms'", 'fleet.wait_for_change' => "$open, '50 ms'", 'fleet.wait' => "$open, '50 ms'",
    'fleet.add_hook' => q{'new', sql => 'SELECT 1'}, 'fleet_link.hook_params' => q{'noop'}, 'fleet.create_job' => q{'new'}, 'fleet.create_package' => q{'new'}, 'fleet.alter_job' => q{'noop', description => 'x'}, 'fleet.alter_package' => q{'here', description => 'x'},
    'fleet.drop_job' => q{'noop'}, 'fleet.drop_package' => q{'here'}, 'fleet.add_step' => q{'noop', 'more', sql => 'SELECT 1'}, 'fleet.drop_step' => q{'noop', 's1'},
    'fleet.add_task' => q{'here', 'more', sql => 'SELECT 1'}, 'fleet.drop_task' => q{'here', 't'}, 'fleet.execute_package' => q{'here'},
    'fleet.add_server' => q{'new', 'host=127.0.0.1', username => 'etl', password => 'x'}, 'fleet.alter_server' => q{'a1', slots => 2}, 'fleet.set_server_state' => q{'a1', 'draining'}, 'fleet.check_server' => q{'a1'}, 'fleet_link.ask_server' => q{'a1'},
    'fleet.unregister_server' => q{'a1'}, 'fleet.remove_server' => q{'named', cascade => true}, 'fleet.plan' => q{'here'}, 'fleet.advise' => q{'here', servers => 2}, 'fleet.param' => q{'x'}, 'fleet.context' => q{'x'},
    'fleet.agent_status' => '', 'fleet.state_transitions' => '', 'fleet.state_graph' => q{'run'}, 'fleet_link.deployment_list' => '',
    'fleet_link.agent_hello' => q{fleet_catalog_protocol, gen_random_uuid(), 1, 'x'}, 'fleet_link.watch_run' => "$ended, NULL, NULL",
    'fleet.report' => $ended, 'fleet.overview' => '', 'fleet.gantt' => $ended, 'fleet.tree' => $ended, 'fleet_link.check_run' => $ended, 'fleet_link.check_gantt' => "$ended, 80", 'fleet_link.check_days' => '7',
    'fleet_link.run_advice' => $ended, 'fleet_link.may_wait' => "$open, '1 s'", 'fleet_link.run_news' => "$open, '{}'", 'fleet_link.run_failure' => $ended,
);
$argument{'fleet_link.agent_hello'} =~ s/fleet_catalog_protocol/2/;
my @functions = map { [ split /\|/ ] } split /\n/, $f->sql(q{
    SELECT p.pronamespace::regnamespace || '.' || p.proname, p.prokind, p.pronargs - p.pronargdefaults, pg_get_function_identity_arguments(p.oid)
      FROM pg_proc p WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace) AND p.prorettype NOT IN ('event_trigger'::regtype, 'trigger'::regtype) ORDER BY 1});
cmp_ok(scalar @functions, '>', 50, 'there are functions');
for my $name (sort keys %standby)
{
    my $s = $standby{$name};
    for my $role (qw(postgres operator stranger reader etl))
    {
        my (%refused, %answered);
        my $session = $s->background_psql('dw', on_error_stop => 0, extra_params => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);
        for my $function (@functions)
        {
            my ($called, $kind, $n) = @$function;
            my $arguments = $argument{$called} // join ', ', ('NULL') x $n;
            $session->{stderr} = '';
            $session->query(($kind eq 'p' ? 'CALL ' : 'SELECT * FROM ') . "$called($arguments);");
            if ($session->{stderr} =~ /ERROR:\s+(\w{5})/) { push @{ $refused{$1} }, $called; }
            elsif ($session->{stderr} =~ /ERROR|FATAL/) { push @{ $refused{ $session->{stderr} } }, $called; }
            else { $answered{$called} = 1; }
        }
        $session->quit;
        # read-only transaction; bad or null arguments, what does not exist, no privilege, no pg_cron, does not take part in a copy
        my @strange = grep { !/^(?:25006|22004|22023|42501|42704|42602|0A000|55000|FE001|42883|42P13|2D000|25001|3F000|42710)$/ } sort keys %refused;
        is(join(', ', map { "$_: @{$refused{$_}}" } @strange), '', "$name, as $role: what is refused says why");
        if ($role eq 'postgres')
        {
            my %read_only = map { $_ => 1 } @{ $refused{25006} };
            is(join(' ', grep { !$read_only{$_} } qw(fleet.run_parent_package fleet.start_job fleet.deploy_job fleet.cancel_run fleet.create_job fleet.alter_job fleet.drop_job fleet.add_step fleet.drop_step
                fleet.create_package fleet.alter_package fleet.drop_package fleet.add_task fleet.drop_task fleet.execute_package fleet.add_server fleet.alter_server fleet.set_server_state
                fleet.unregister_server fleet.remove_server fleet_link.agent_hello)), '', "$name: what would write says that the transaction is read-only");
            is(join(' ', grep { !$answered{$_} } qw(fleet.agent_status fleet.wait fleet.wait_for_run fleet.wait_for_change fleet.plan fleet.advise fleet.param fleet.context fleet.run_id fleet.failure fleet.run_outcome fleet.state_graph fleet.state_transitions fleet_link.deployment_list
                fleet_link.run_news fleet_link.run_failure
                fleet.report fleet.overview fleet.gantt fleet.tree fleet_link.run_advice)), '', "$name: what reads answers");
        }
        else { note "$name, as $role: ", join ', ', map { "$_: " . @{ $refused{$_} } } sort keys %refused; }
    }
    my @registered = slurp_file($s->logfile) =~ /registering background worker "(pg_fleet [a-k m-z]\w*)/g;
    is("@registered", '', "$name: no worker was registered");
    is($s->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet%'}), '0', "$name: and none is there");
}

# Promoted, both work as they would have.
$lock->query_safe('SELECT pg_advisory_unlock(4801)');
$f->run_is($open, 'succeeded', 'the run that was open ends');
$lock->quit;
my $real = $f->{nodes}{parent};
$f->forget('parent');
$node->stop('immediate');
for my $name (sort keys %standby)
{
    my $s = $standby{$name};
    $s->promote;
    $f->{nodes}{parent} = $s;
    $f->run_is($f->start('on named'), 'succeeded', "$name: promoted, it runs what is asked for");
    $f->forget('parent');
    $s->stop('immediate') if $name ne 'standby';
}
$f->done(crashes => 1);
