# Roles: a user without any privilege but his own schema defines and runs it all; others see none of
# it; nobody borrows the server's identity; a password is nowhere.
use strict;
use warnings;
use File::Find;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, register => 0);
my $parent = $f->parent;
my $canary = 'canary-7c2f1e-secret';
$parent->safe_psql('postgres', <<"SQL");
CREATE ROLE alice LOGIN PASSWORD 'alice';
CREATE ROLE bob LOGIN PASSWORD 'bob';
CREATE ROLE carol LOGIN PASSWORD 'carol' IN ROLE fleet_operator;
CREATE ROLE dave LOGIN PASSWORD 'dave' IN ROLE fleet_reader;
CREATE ROLE erin LOGIN PASSWORD 'erin' IN ROLE pg_monitor;
SQL
$f->sql('CREATE SCHEMA alice AUTHORIZATION alice; CREATE SCHEMA bob AUTHORIZATION bob; GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO alice');
for my $server (qw(a1 d1))
{
    $f->sql_on($server, "ALTER ROLE etl PASSWORD '$canary'");
    $f->sql_on($server, 'CREATE TABLE etl.who (name text, sess text); ALTER TABLE etl.who OWNER TO etl');
}

# ---- what a user without privileges can do (but USAGE on the wrapper, to make servers) -----------------------------------------------------

for my $server (qw(a1 d1))
{
    $f->sql_as('alice', sprintf q{SELECT fleet.add_server('%s', '%s', username => 'etl', password => '%s', mode => '%s', groups => '{mine}')},
        $server, $f->conninfo($server), $canary, $f->mode($server));
}
$f->sql_as('alice', <<'SQL');
CREATE TABLE alice.who (name text, sess text, super text);
SELECT fleet.create_job('alice job');
SELECT fleet.add_step('alice job', 'who', 'INSERT INTO etl.who SELECT current_user, session_user');
SELECT fleet.create_package('alice package');
SELECT fleet.create_limit('alice limit', 1, shared => false);
SELECT fleet.add_hook('alice hook', sql => 'SELECT 1', on_event => '{purge_done}');
SELECT fleet.add_task('alice package', 'here', sql => 'INSERT INTO alice.who SELECT current_user, session_user, current_setting(''is_superuser'')');
SELECT fleet.add_task('alice package', 'direct', job => 'alice job', server => 'd1', after => '{here}');
SELECT * FROM fleet.deploy_job('alice job', server => 'a1');
SQL
$f->wait_for('parent', q{SELECT string_agg(state, ',') FROM fleet.deployment WHERE job = 'alice job'}, 'deployed', 'deployed by a user without privileges');
$f->sql_as('alice', q{SELECT fleet.add_task('alice package', 'agent', job => 'alice job', server => 'a1', after => '{here}')});
my $run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice package')});
is($f->sql_as('alice', "SELECT fleet.wait_for_run($run, timeout => '60s')"), 'succeeded', 'and run by him') or diag($f->dump_run($run));
$f->sql('INSERT INTO fleet_catalog.hook_call (hook_id, event_id, state, attempts, started_at, finished_at) SELECT hook_id, 1, 11, 1, now(), now() FROM fleet_catalog.hook');
is($f->sql('SELECT * FROM alice.who'), 'alice|alice|off', 'a local step is him, in current_user and session_user');
is($f->sql_on($_, 'SELECT * FROM etl.who'), 'etl|etl', "on $_ it is the user of his mapping") for qw(a1 d1);

# whatever a step resets, it stays him
for my $trick ('RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT', 'SET ROLE NONE', 'DISCARD ALL')
{
    my $name = "trick $trick";
    $f->sql_as('alice', "TRUNCATE alice.who; SELECT fleet.create_job('$name'); SELECT fleet.add_step('$name', '1', '$trick'" . ($trick =~ /DISCARD/ ? ', transactional => false' : '') . ");"
          . "SELECT fleet.add_step('$name', '2', 'INSERT INTO alice.who SELECT current_user, session_user, current_setting(''is_superuser'')')");
    my $id = $f->sql_as('alice', "SELECT fleet.start_job('$name')");
    $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'succeeded', "$name: runs");
    is($f->sql('SELECT * FROM alice.who'), 'alice|alice|off', "$name: gives nothing");
}
my $super = (getpwuid($<))[0];
# each is refused with its own reason, and has done nothing
my %attack = (
    "SET ROLE \"$super\""                  => "42501|permission denied to set role \"$super\"",
    "SET SESSION AUTHORIZATION \"$super\"" => "42501|permission denied to set session authorization \"$super\"",
    'CREATE ROLE mallory SUPERUSER'        => '42501|must be superuser to create superusers',
    'ALTER ROLE alice SUPERUSER'           => '42501|must be superuser to alter superuser roles or change superuser attribute',
    'SELECT * FROM pg_authid'              => '42501|permission denied for table pg_authid',
    'SELECT * FROM fleet_catalog.run'      => '42501|permission denied for schema fleet_catalog',
    q{COPY alice.who TO PROGRAM 'touch ran'} => '42501|must be superuser or have privileges of the pg_execute_server_program role to COPY to or from an external program',
    q{SELECT pg_read_file('PG_VERSION')}   => '42501|permission denied for function pg_read_file');
for my $trick (sort keys %attack)
{
    my $name = "attack $trick";
    $f->sql_as('alice', 'SELECT fleet.create_job(' . FleetTest::quote_literal($name) . '); SELECT fleet.add_step(' . FleetTest::quote_literal($name) . ", '1', " . FleetTest::quote_literal($trick) . ')');
    my $id = $f->sql_as('alice', 'SELECT fleet.start_job(' . FleetTest::quote_literal($name) . ')');
    $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'failed', "$name: fails");
    is($f->sql("SELECT sqlstate || '|' || message FROM fleet.job_run WHERE job_run_id = $id"), $attack{$trick}, "$name: refused, with the reason");
}
is($f->sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'mallory' OR (rolname = 'alice' AND rolsuper)}), '0', 'the attacks made no superuser');
ok(!-e $parent->data_dir . '/ran', 'and ran no program');

# for_each and a deferred trigger are user SQL too
$f->sql_as('alice', <<'SQL');
TRUNCATE alice.who;
CREATE FUNCTION alice.spy() RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'spy: % % %', current_user, session_user, current_setting('is_superuser');
    RETURN '{"n": 1}';
END $$;
CREATE TABLE alice.trap (i int);
CREATE FUNCTION alice.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alice.who SELECT 'trap ' || current_user, session_user, current_setting('is_superuser'); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER trap AFTER INSERT ON alice.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.trap();
SELECT fleet.create_package('alice spies');
SELECT fleet.add_task('alice spies', 'each', sql => 'INSERT INTO alice.trap VALUES (1)', for_each => 'SELECT alice.spy()');
SQL
$run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice spies')});
is($f->sql_as('alice', "SELECT fleet.wait_for_run($run, timeout => '60s')"), 'succeeded', 'for_each of a user') or diag($f->dump_run($run));
is($f->sql('SELECT * FROM alice.who'), 'trap alice|alice|off', 'a deferred trigger fires as him');

# shadowed operators and functions: the agent's own SQL must not meet them
$f->sql_as('alice', <<'SQL');
CREATE FUNCTION alice.shadow(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN INSERT INTO alice.who VALUES ('shadow ' || current_user, session_user, current_setting('is_superuser')); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR alice.= (LEFTARG = text, RIGHTARG = text, FUNCTION = alice.shadow);
CREATE FUNCTION alice.now() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN INSERT INTO alice.who VALUES ('now ' || current_user, session_user, current_setting('is_superuser')); RETURN pg_catalog.now(); END $$;
SQL
$f->sql(q{TRUNCATE alice.who; ALTER DATABASE dw SET search_path = alice, pg_catalog});
$f->sql("ALTER ROLE \"$super\" SET search_path = alice, pg_catalog");
$f->forget('parent');    # new sessions have them
my $pid = $f->agent_pid;
$f->sql("SELECT pg_catalog.pg_terminate_backend($pid)") if $pid;
$run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice package')});
is($f->sql_as('alice', "SELECT fleet.wait_for_run($run, timeout => '60s')"), 'succeeded', 'with a hostile search_path of database and role');
is($f->sql(q{SELECT count(*) FROM alice.who WHERE super OPERATOR(pg_catalog.=) 'on'}), '0', 'nothing of the user ran with more than his rights');
$f->sql("ALTER DATABASE dw RESET search_path; ALTER ROLE \"$super\" RESET search_path");
$f->forget('parent');

# ---- what others see ---------------------------------------------------------------------------

# alice has something in every view: a run, a job run, a schedule, an end of an agent.
# A view that comes new is looked at as well, and fails here until she has something in it.
$f->sql("INSERT INTO fleet_catalog.quarantine (kind, id, work, sqlstate, message) VALUES ('run', $run, 'work', 'XX000', 'it ended')");
$f->sql(q{SELECT fleet.schedule_package('alice package', '0 0 1 1 *', name => 'alice schedule'); SELECT fleet.set_quota('alice', max_open_runs => 10000);
    CREATE ROLE mate LOGIN PASSWORD 'mate' IN ROLE alice; CREATE ROLE kin LOGIN NOINHERIT IN ROLE alice});
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE state NOT IN ('succeeded', 'failed', 'canceled')}, '0', 'nothing runs while it is counted');
my %session = map { $_ => FleetTest::Session->new($parent, 'dw', $_) } ($super, qw(alice bob carol dave erin mate kin));
my @views = split /\n/, $session{$super}->sql(q{SELECT viewname FROM pg_views WHERE schemaname = 'fleet' ORDER BY 1});
cmp_ok(scalar @views, '>=', 16, 'the views of schema fleet') or diag("@views");
# what belongs to runs and to job runs of this server's own agent are two branches of a view each
my %part = (
    (map { $_ => $_ } @views),
    event => 'event WHERE run_id IS NOT NULL',    # of the agent everybody may know
    quota => 'quota WHERE role IS NOT NULL',      # that of everybody too
    stat => q{stat WHERE scope <> 'all'},         # the sum of nothing is a row too
    (map { ("$_, of runs" => "$_ WHERE run_id IS NOT NULL", "$_, of job runs" => "$_ WHERE job_run_id IS NOT NULL") } qw(job_log step_run log)),
    'log, starts of runs\' steps' => q{log WHERE run_id IS NOT NULL AND message LIKE 'step "%" started'},
    'log, starts of job runs\' steps' => q{log WHERE job_run_id IS NOT NULL AND message LIKE 'step "%" started'},
    'log, what job runs said' => q{log WHERE job_run_id IS NOT NULL AND level = 'NOTICE'});
$f->sql_as('alice', q{SELECT fleet.create_job('talks'); SELECT fleet.add_step('talks', 's', $$DO $x$BEGIN RAISE NOTICE 'said'; END$x$ $$)});
my $talk = $f->sql_as('alice', q{SELECT fleet.start_job('talks')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $talk", 'succeeded', 'a job that says something');
$f->sql_as('alice', q{SELECT fleet.pause('mine', package => 'alice package')});
for my $part (sort keys %part)
{
    my %n = map { $_ => $session{$_}->say("SELECT count(*) FROM fleet.$part{$part}") } keys %session;
    cmp_ok($n{alice}, '>', 0, "$part: alice sees her own");
    is($n{bob}, '0', "$part: bob sees nothing of it");
    is_deeply([ @n{qw(carol dave erin)} ], [ ($n{$super}) x 3 ], "$part: fleet_operator, fleet_reader and pg_monitor see all");
    is_deeply([ @n{qw(mate kin)} ], [ ($n{alice}) x 2 ], "$part: members of alice see what she sees");
}
$f->sql_as('alice', q{SELECT fleet.resume(package => 'alice package')});
# what somebody has himself is all that he sees
$f->sql_as('bob', q{SELECT fleet.create_package('bobs'); SELECT fleet.add_task('bobs', 't', sql => 'SELECT 1'); SELECT fleet.run_parent_package('bobs')});
$f->wait_for('parent', q{SELECT state FROM fleet.run WHERE package = 'bobs'}, 'succeeded', 'bob runs something of his own');
is($session{bob}->say('SELECT DISTINCT owner FROM fleet.run UNION SELECT owner FROM fleet.package'), 'bob', 'bob sees his own run and package only');
is($session{bob}->say(q{SELECT count(DISTINCT run_id) FROM fleet.task_run}), '1', 'and his own task run');
# USAGE on a server shows the server, not what it said to its owner
$f->sql_as('alice', sprintf q{SELECT fleet.add_server('down', 'host=127.0.0.1 port=1 dbname=dw', username => 'etl', password => '%s', mode => 'direct');
    SELECT fleet.create_package('down'); SELECT fleet.add_task('down', 't', job => 'alice job', server => 'down'); SELECT fleet.run_parent_package('down')}, $canary);
$f->wait_for('parent', q{SELECT last_error LIKE '%Connection refused%' FROM fleet.server_status WHERE server = 'down'}, 't', 'a server that is down has an error');
$f->sql('GRANT USAGE ON FOREIGN SERVER down TO bob');
is($session{bob}->say(q{SELECT server, last_error IS NULL FROM fleet.server_status}), 'down|t', 'with USAGE on a server bob sees it, without what it last said');
is($session{bob}->say(q{SELECT server FROM fleet.server}), 'down', 'and how it is reached');
$f->sql('REVOKE USAGE ON FOREIGN SERVER down FROM bob');
$run = $f->sql(q{SELECT run_id FROM fleet.run WHERE package = 'down'});
is($session{alice}->say("SELECT fleet.cancel_run($run)"), 't', 'what waits for that server is canceled');
$f->run_is($run, 'canceled', 'and ends');

# ---- what others may do ------------------------------------------------------------------------

# Something of hers that runs, for whoever wants to stop it.
$f->sql_as('alice', q{SELECT fleet.create_package('alice sleeps'); SELECT fleet.add_task('alice sleeps', 't', sql => 'SELECT pg_sleep(600)');
    SELECT fleet.create_job('sleeps'); SELECT fleet.add_step('sleeps', 's', 'SELECT pg_sleep(600)')});
my $sleeping = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice sleeps')});
my $sleeping_job = $f->sql_as('alice', q{SELECT fleet.start_job('sleeps')});
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $sleeping", 'running', 'a task of hers runs');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $sleeping_job", 'running', 'a job of hers runs');
my $schedule = $session{$super}->sql(q{SELECT schedule_id FROM fleet_catalog.schedule WHERE name = 'alice schedule'});
my $before = $session{$super}->sql('SELECT sum(hashtext(t::text)::bigint) FROM (SELECT j::text FROM fleet.job AS j UNION ALL SELECT s::text FROM fleet.step AS s'
      . ' UNION ALL SELECT p::text FROM fleet.package AS p UNION ALL SELECT k::text FROM fleet.task AS k UNION ALL SELECT c::text FROM fleet.precedence AS c'
      . ' UNION ALL SELECT v::text FROM fleet.server AS v UNION ALL SELECT h::text FROM fleet.schedule AS h UNION ALL SELECT d::text FROM fleet.deployment AS d) AS t (t)');
my $uuid = '11111111-1111-1111-1111-111111111111';
# Every function of schemas fleet and fleet_link, as somebody who has no right to what it is about.
my %stranger = (
    create_job => [ q{SELECT fleet.create_job('alice job')} => '42710' ],
    alter_job => [ q{SELECT fleet.alter_job('alice job', description => 'x')} => '42501' ],
    drop_job => [ q{SELECT fleet.drop_job('alice job')} => '42501' ],
    add_step => [ q{SELECT fleet.add_step('alice job', 'mine', 'SELECT 1')} => '42501' ],
    drop_step => [ q{SELECT fleet.drop_step('alice job', 'who')} => '42501' ],
    start_job => [ q{SELECT fleet.start_job('alice job')} => '42501' ],
    begin_job => [ q{SELECT fleet_link.begin_job('alice job', '{}', NULL, NULL, NULL)} => '42501' ],
    execute_job => [ q{CALL fleet.execute_job('alice job')} => '42501' ],
    follow_run => [ "CALL fleet_link.follow_run($sleeping, 'x')" => '42704' ],
    create_package => [ q{SELECT fleet.create_package('alice package')} => '42710' ],
    alter_package => [ q{SELECT fleet.alter_package('alice package', description => 'x')} => '42501' ],
    drop_package => [ q{SELECT fleet.drop_package('alice package')} => '42501' ],
    add_task => [ q{SELECT fleet.add_task('alice package', 'mine', sql => 'SELECT 1')} => '42501' ],
    drop_task => [ q{SELECT fleet.drop_task('alice package', 'here')} => '42501' ],
    add_precedence => [ q{SELECT fleet.add_precedence('alice package', 'direct', 'agent')} => '42501' ],
    alter_task => [ q{SELECT fleet.alter_task('alice package', 'here', enabled => false)} => '42501' ],
    alter_precedence => [ q{SELECT fleet.alter_precedence('alice package', 'here', 'direct', on_outcome => 'failure')} => '42501' ],
    alter_step => [ q{SELECT fleet.alter_step('alice job', 's', retries => 1)} => '42501' ],
    diff_package => [ q{SELECT * FROM fleet.diff_package('alice package', 1)} => '42501' ],
    diff_job => [ q{SELECT * FROM fleet.diff_job('alice job', 1)} => '42501' ],
    restore_package => [ q{SELECT fleet.restore_package('alice package', 1)} => '42501' ],
    restore_job => [ q{SELECT fleet.restore_job('alice job', 1)} => '42501' ],
    store_edit => [ 'SELECT fleet_link.store_edit()' => '42501' ],
    drop_precedence => [ q{SELECT fleet.drop_precedence('alice package', 'here', 'direct')} => '42501' ],
    register_server => [ q{SELECT fleet.register_server('d1')} => '42501' ],
    register_created => [ q{SELECT fleet_link.register_created('d1', 'agent', 1, '{}', 1)} => '42501' ],
    create_foreign_server => [ q{SELECT fleet_link.create_foreign_server('new', 'host=127.0.0.1', 'u', 'p')} => '42501' ],
    add_server => [ q{SELECT fleet.add_server('new', 'host=127.0.0.1', username => 'u', password => 'p')} => '42501' ],
    alter_server => [ q{SELECT fleet.alter_server('d1', slots => 1)} => '42501' ],
    create_group => [ q{SELECT fleet.create_group('mine')} => '42710' ],
    alter_group => [ q{SELECT fleet.alter_group('mine', 'bob')} => '42501' ],
    drop_group => [ q{SELECT fleet.drop_group('mine')} => '42501' ],
    create_limit => [ q{SELECT fleet.create_limit('alice limit', 5)} => '42710' ],
    alter_limit => [ q{SELECT fleet.alter_limit('alice limit', 5)} => '42501' ],
    set_quota => [ q{SELECT fleet.set_quota('bob', max_runners => 100)} => '42501' ],
    drop_quota => [ q{SELECT fleet.drop_quota('bob')} => '42501' ],
    drop_limit => [ q{SELECT fleet.drop_limit('alice limit')} => '42501' ],
    add_hook => [ q{SELECT fleet.add_hook('alice hook', sql => 'SELECT 1')} => '42710' ],
    alter_hook => [ q{SELECT fleet.alter_hook('alice hook', enabled => false)} => '42704' ],
    drop_hook => [ q{SELECT fleet.drop_hook('alice hook')} => '42704' ],
    hook_params => [ q{SELECT fleet_link.hook_params('alice job')} => '42501' ],
    set_server_state => [ q{SELECT fleet.set_server_state('d1', 'offline')} => '42501' ],
    check_server => [ q{CALL fleet.check_server('d1')} => '42501' ],
    ask_server => [ q{SELECT fleet_link.ask_server('d1')} => '42501' ],
    lift_quarantine => [ "SELECT fleet.lift_quarantine(run_id => $sleeping)" => '42704' ],
    unregister_server => [ q{SELECT fleet.unregister_server('d1')} => '42501' ],
    remove_server => [ q{SELECT fleet.remove_server('d1')} => '42501' ],
    deploy_job => [ q{SELECT * FROM fleet.deploy_job('alice job', server => 'a1')} => '42501' ],
    undeploy_job => [ q{SELECT * FROM fleet.undeploy_job('alice job', server => 'a1')} => '42501' ],
    run_parent_package => [ q{SELECT fleet.run_parent_package('alice package')} => '42501' ],
    cancel_run => [ "SELECT fleet.cancel_run($sleeping)" => '42704' ],
    pause_run => [ "SELECT fleet.pause_run($sleeping)" => '42704' ],
    resume_run => [ "SELECT fleet.resume_run($sleeping)" => '42704' ],
    pause => [ q{SELECT fleet.pause('mine')} => '42501' ],
    resume => [ q{SELECT fleet.resume(package => 'alice package')} => '42501' ],
    skip_task => [ "SELECT fleet.skip_task($sleeping, 't')" => '42704' ],
    retry_task => [ "SELECT fleet.retry_task($sleeping, 't')" => '42704' ],
    set_retention => [ q{SELECT fleet.set_retention('alice package', keep_days => 1)} => '42501' ],
    purge => [ q{SELECT fleet.purge(older_than => '0')} => '42501' ],
    stat_reset => [ 'SELECT fleet.stat_reset()' => '42501' ],
    export_package => [ q{SELECT fleet.export_package('alice package')} => '42501' ],
    import_package => [ q{SELECT fleet.import_package('{"format": 1, "package": "alice package", "packages": {"alice package": {}}}', replace => true)} => '42501' ],
    export_server => [ q{SELECT fleet.export_server('d1')} => '42501' ],
    validate_package => [ q{SELECT fleet.validate_package('alice package')} => '42501' ],
    restart_run => [ "SELECT fleet.restart_run($sleeping)" => '42704' ],
    (map { $_ => [ qq{SET fleet.context = '{"run_id": $sleeping}'; SELECT fleet.$_('sleep')} => '42704' ] } qw(output outcome)),
    cancel_job_run => [ "SELECT fleet.cancel_job_run($sleeping_job)" => '42704' ],
    wait_for_run => [ "SELECT fleet.wait_for_run($sleeping, timeout => '1ms')" => '42704' ],
    wait_for_change => [ "SELECT fleet.wait_for_change($sleeping, timeout => '1ms')" => '42704' ],
    wait => [ "CALL fleet.wait($sleeping, timeout => '1ms')" => '42704' ],
    may_wait => [ "SELECT fleet_link.may_wait($sleeping, NULL)" => '42704' ],
    watch_run => [ "CALL fleet_link.watch_run($sleeping, NULL, NULL)" => '42704' ],
    run_news => [ "SELECT * FROM fleet_link.run_news($sleeping, NULL)" => '42704' ],
    confirm_identity => [ q{SELECT fleet.confirm_identity('new')} => '42501' ],
    execute_package => [ q{CALL fleet.execute_package('alice package')} => '42501' ],
    plan => [ q{SELECT * FROM fleet.plan('alice package')} => '42501' ],
    advise => [ q{SELECT * FROM fleet.advise('alice package')} => '42501' ],
    schedule_job => [ q{SELECT fleet.schedule_job('alice job', '* * * * *')} => '42501' ],
    alter_schedule => [ q{SELECT fleet.alter_schedule('alice schedule', enabled => false)} => '42704' ],
    unschedule => [ q{SELECT fleet.unschedule('alice schedule')} => '42704' ],
    start_scheduled => [ "SELECT fleet_link.start_scheduled($schedule, now())" => '42704' ],
    backfill => [ q{SELECT * FROM fleet.backfill('alice package', now(), now())} => '42501' ],
    backfill_plan => [ q{SELECT * FROM fleet_link.backfill_plan('alice package', now(), now(), '1 day', 'none', 0)} => '42501' ],
    backfill_run => [ q{SELECT fleet_link.backfill_run('alice package', now(), '{}', NULL, 'start', 0)} => '42501' ],
    record_waker => [ q{SELECT fleet_link.record_waker('dw')} => '55000' ],
    use_pg_cron => [ q{SELECT fleet.use_pg_cron()} => '55000' ],
    cron_database => [ q{SELECT fleet_link.cron_database()} => '55000' ],
    schedule_package => [ q{SELECT fleet.schedule_package('alice package', '* * * * *')} => '42501' ],
    unschedule_package => [ q{SELECT fleet.unschedule_package('alice package')} => '42501' ],
    agent_deploy => [ "SELECT fleet_link.agent_deploy('$uuid', 1, '{\"name\": \"alice job\", \"params\": {}, \"steps\": []}')" => '42710' ],
    foreign_server_altered => [ 'SELECT fleet_link.foreign_server_altered()' => '0A000' ],
    foreign_server_dropped => [ 'SELECT fleet_link.foreign_server_dropped()' => '0A000' ],
    report => [ "SELECT fleet.report($sleeping)" => '42704' ],
    gantt => [ "SELECT * FROM fleet.gantt($sleeping)" => '42704' ],
    tree => [ "SELECT * FROM fleet.tree($sleeping)" => '42704' ],
    check_run => [ "SELECT fleet_link.check_run($sleeping)" => '42704' ],
    check_gantt => [ "SELECT fleet_link.check_gantt($sleeping, 80)" => '42704' ],
    # these answer with what the caller may know: nothing
    overview => [ q{SELECT fleet.overview() ~ 'alice|sleep|a1|d1'} => 'f' ],
    run_advice => [ "SELECT count(*) FROM fleet_link.run_advice($sleeping)" => '0' ],
    run_failure => [ "SELECT fleet_link.run_failure($sleeping)" => '42704' ],
    run_eta => [ "SELECT fleet_link.run_eta($sleeping)" => '' ],
    deployment_list => [ 'SELECT count(*) FROM fleet_link.deployment_list()' => '0' ],
    agent_start => [ "SELECT job_run_id, known, sqlstate FROM fleet_link.agent_start('$uuid', 1, '{$uuid}', '{alice job}', '{\"{}\"}')" => '|f|42501' ],
    agent_document => [ "SELECT fleet_link.agent_document('$uuid', 1, '$uuid', '{}')" => 'XX001' ],
    agent_resume => [ "SELECT r.* FROM fleet_test.tokens() AS t, fleet_link.agent_resume('$uuid', 1, t) AS r WHERE r.job_run_id IS NOT NULL" => '' ],
    agent_fetch => [ "SELECT count(*) FROM fleet_link.agent_fetch('$uuid', 1, '{$talk,$sleeping_job}', '{0,0}')" => '0' ],
    agent_cancel => [ "SELECT fleet_link.agent_cancel('$uuid', 1, t) FROM fleet_test.tokens() AS t" => '' ],
    agent_acknowledge => [ "SELECT fleet_link.agent_acknowledge('$uuid', t) FROM fleet_test.tokens() AS t" => '' ],
    # and these are about nobody's things
    map({ $_ => undef } qw(agent_hello agent_status check_days check_params_sql context cron_elsewhere document_schema failure keep_agent param run_id run_outcome schedule_times scheduled_for stat_bounds state_graph state_transitions validator)));
# the tokens of her job runs, should he ever have got at them
$f->sql('CREATE SCHEMA fleet_test; GRANT USAGE ON SCHEMA fleet_test TO PUBLIC;'
      . 'CREATE FUNCTION fleet_test.tokens() RETURNS uuid[] LANGUAGE sql SECURITY DEFINER AS $$SELECT array_agg(token) FROM fleet_catalog.job_run$$');
is($session{$super}->sql(q{SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace)}),
    join(' ', sort keys %stranger), 'every function of schemas fleet and fleet_link is tried below');
like($session{bob}->say("SELECT agent_protocol FROM fleet_link.agent_hello(2, '$uuid', 1, 'x')"), qr/^2$/, 'he comes as a parent of his own');
for my $function (sort grep { $stranger{$_} } keys %stranger)
{
    my ($sql, $expected) = @{ $stranger{$function} };
    my $got = $session{bob}->say($sql);
    $got = $1 if $expected =~ /^\w{5}$/ && $got =~ /^ERROR:  (\w{5}): /m;
    is($got, $expected, "$function as a stranger: " . ($expected =~ /^\w{5}$/ ? "refused ($expected)" : 'gets nothing'));
}
is($session{$super}->sql('SELECT sum(hashtext(t::text)::bigint) FROM (SELECT j::text FROM fleet.job AS j UNION ALL SELECT s::text FROM fleet.step AS s'
          . ' UNION ALL SELECT p::text FROM fleet.package AS p UNION ALL SELECT k::text FROM fleet.task AS k UNION ALL SELECT c::text FROM fleet.precedence AS c'
          . ' UNION ALL SELECT v::text FROM fleet.server AS v UNION ALL SELECT h::text FROM fleet.schedule AS h UNION ALL SELECT d::text FROM fleet.deployment AS d) AS t (t)'),
    $before, 'and no definition of hers is any different');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $sleeping"), 'running', 'her run goes on');
is($f->sql("SELECT state, acknowledged_at IS NULL FROM fleet.job_run WHERE job_run_id = $sleeping_job"), 'running|t', 'her job run goes on');
# with USAGE on a server he may use it, and not change it
$f->sql('GRANT USAGE ON FOREIGN SERVER d1 TO bob');
for my $sql (q{SELECT fleet.alter_server('d1', slots => 1)}, q{SELECT fleet.set_server_state('d1', 'offline')},
    q{SELECT fleet.unregister_server('d1')}, q{SELECT fleet.remove_server('d1')})
{
    like($session{bob}->say($sql), qr/^ERROR:  42501: permission denied for server "d1"$/m, "with USAGE only: $sql: refused");
}
is($session{bob}->say(q{SELECT fleet.create_job('uses d1'); SELECT fleet.add_step('uses d1', 's', 'SELECT 1'); SELECT fleet.create_package('uses d1');
    SELECT fleet.add_task('uses d1', 't', job => 'uses d1', server => 'd1')}) =~ /ERROR/ ? 'refused' : 'defined', 'defined', 'with USAGE: he may place tasks on it');
$f->sql('REVOKE USAGE ON FOREIGN SERVER d1 FROM bob');

# who sees her runs sees them as pages and texts
for my $reader (qw(alice carol dave erin))
{
    is($session{$reader}->say("SELECT fleet.report($sleeping) ~ '<h1><bdi>alice sleeps</bdi></h1>', (SELECT count(*) > 1 FROM fleet.gantt($sleeping)), (SELECT count(*) > 1 FROM fleet.tree($sleeping)), fleet.overview() ~ 'alice sleeps'"), 't|t|t|t', "$reader sees it on its pages");
}

# a reader, a monitor and a member that may not become her may not; an operator may stop it
for my $reader (qw(dave erin))
{
    like($session{$reader}->say("SELECT fleet.cancel_run($sleeping)"), qr/^ERROR:  42501: permission denied for run "$sleeping"$/m, "$reader, who sees her run, may not cancel it");
    like($session{$reader}->say("SELECT fleet.cancel_job_run($sleeping_job)"), qr/^ERROR:  42501: permission denied for job run "$sleeping_job"$/m, "$reader may not cancel her job run");
    like($session{$reader}->say(q{SELECT fleet.run_parent_package('alice package')}), qr/^ERROR:  42501: permission denied for package "alice package"$/m, "$reader may not start her package");
    like($session{$reader}->say(q{SELECT fleet.start_job('alice job')}), qr/^ERROR:  42501: permission denied for job "alice job"$/m, "$reader may not start her job");
    like($session{$reader}->say(q{SELECT fleet.set_server_state('d1', 'offline')}), qr/^ERROR:  42501: permission denied for server "d1"$/m, "$reader may not change her server");
    is($session{$reader}->say("SELECT fleet.wait_for_run($sleeping, timeout => '1ms') IS NULL"), 't', "$reader may wait for it");
}
is($session{carol}->say(q{SELECT fleet.alter_server('d1', slots => 3)}), '', 'an operator changes her server');
is($f->sql(q{SELECT slots FROM fleet.server WHERE server = 'd1'}), '3', 'and it is changed');
is($session{carol}->say("SELECT fleet.cancel_run($sleeping)"), 't', 'an operator cancels');
$f->run_is($sleeping, 'canceled', 'and it is canceled');
is($session{carol}->say("SELECT fleet.cancel_job_run($sleeping_job)"), 't', 'an operator cancels a job run');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $sleeping_job", 'canceled', 'and it is canceled, too');
is($session{carol}->say("SELECT fleet.cancel_run($sleeping)"), 'f', 'what has ended is not canceled again');
like($session{carol}->say(q{SELECT fleet.drop_package('alice package')}), qr/^ERROR:  42501: /m, 'an operator does not drop her package');
# a member acts as her, and it is her run
$run = $session{mate}->say(q{SELECT fleet.run_parent_package('alice sleeps')});
is($f->sql("SELECT owner, requested_by FROM fleet.run WHERE run_id = $run"), 'alice|mate', 'a member starts her package: it is her run, at his request');
is($session{mate}->say("SELECT fleet.cancel_run($run)"), 't', 'and cancels it');
$f->run_is($run, 'canceled', 'and it is canceled, as well');
# what belongs to a superuser is a superuser's, whoever is a member
$f->sql("CREATE ROLE boss2 SUPERUSER; GRANT boss2 TO bob; SET ROLE boss2; SELECT fleet.create_package('boss'); SELECT fleet.add_task('boss', 't', sql => 'SELECT 1')");
like($session{bob}->say(q{SELECT fleet.run_parent_package('boss')}), qr/^ERROR:  42501: permission denied for package "boss"$/m, 'a member of a superuser does not start what is his');
$f->sql('REVOKE boss2 FROM bob');

# nothing of ours can be touched directly
for my $attempt (
    [ 'TABLE fleet_catalog.run', 'permission denied for schema fleet_catalog' ], [ q{UPDATE fleet.run SET state = 'failed'}, 'cannot update column "state" of view "run"', '0A000' ], [ 'DELETE FROM fleet.run', 'permission denied for view run' ],
    [ 'DELETE FROM fleet.task_run', 'cannot delete from view "task_run"', '55000' ], [ q{UPDATE fleet.server_status SET state = 'x'}, 'cannot update view "server_status"', '55000' ],
    [ q{UPDATE fleet.package SET description = 'x'}, 'permission denied for view package' ], [ q{UPDATE fleet.job SET description = 'x'}, 'permission denied for view job' ],
    [ 'TRUNCATE fleet_catalog.run', 'permission denied for schema fleet_catalog' ], [ 'CREATE TABLE fleet.mine (i int)', 'permission denied for schema fleet' ],
    [ 'CREATE TRIGGER t AFTER INSERT ON fleet_catalog.run EXECUTE FUNCTION alice.trap()', 'permission denied for schema fleet_catalog' ],
    [ 'SELECT fleet_catalog.caller()', 'permission denied for schema fleet_catalog' ], [ q{SELECT fleet_catalog.drop_job('alice job', false)}, 'permission denied for schema fleet_catalog' ],
    [ 'CREATE RULE r AS ON INSERT TO fleet.run DO INSTEAD NOTHING', 'must be owner of view run' ],
    [ 'DROP EXTENSION pg_fleet', 'must be owner of extension pg_fleet' ])
{
    my ($sql, $message, $sqlstate) = @$attempt;
    my $got = $session{alice}->say($sql);
    is((split /\n/, $got)[0], 'ERROR:  ' . ($sqlstate || '42501') . ": $message", "alice: $sql: refused") if $got !~ /^LINE/m;
    like($got, qr/^ERROR:  \Q@{[ $sqlstate || '42501' ]}: $message\E$/m, "alice: $sql: refused") if $got =~ /^LINE/m;
}
is($f->sql(q{SELECT coalesce(string_agg(p.oid::regprocedure::text, ' '), '') FROM pg_proc AS p WHERE p.prosecdef AND p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace, 'fleet_catalog'::regnamespace)}),
    '', 'no function of ours is SECURITY DEFINER');
is($f->sql(q{SELECT coalesce(string_agg(c.oid::regclass::text, ' '), '') FROM pg_class AS c WHERE c.relkind = 'v' AND c.relnamespace = 'fleet'::regnamespace
    AND c.relname <> 'deployment' AND NOT coalesce(c.reloptions, '{}') @> '{security_barrier=true}'}), '', 'every view is a security barrier');

# ---- making servers, and a server that is busy -------------------------------------------------

is($session{$super}->sql(q{SELECT has_foreign_data_wrapper_privilege('bob', 'pg_fleet', 'USAGE'), has_foreign_data_wrapper_privilege('carol', 'pg_fleet', 'USAGE')}), 'f|t',
    'USAGE on the wrapper: not everybody\'s, an operator has it');
like($session{bob}->say('CREATE SERVER mine FOREIGN DATA WRAPPER pg_fleet'), qr/^ERROR:  42501: permission denied for foreign-data wrapper pg_fleet$/m, 'CREATE SERVER without it: refused');
like($session{bob}->say(q{SELECT fleet.add_server('mine', 'host=127.0.0.1', username => 'u', password => 'p')}),
    qr/^ERROR:  42501: permission denied for foreign-data wrapper pg_fleet$/m, 'add_server without it: refused');
is($f->sql(q{SELECT count(*) FROM pg_foreign_server WHERE srvname = 'mine'}), '0', 'and nothing is left of it');
like($session{carol}->say(q{SELECT fleet.add_server('mine', 'host=127.0.0.1', username => 'u', password => 'p', mode => 'direct')}), qr/^\d+$/, 'add_server with it');
is($session{carol}->say(q{SELECT fleet.remove_server('mine')}), '', 'and remove_server');
is($f->sql(q{SELECT (SELECT count(*) FROM pg_foreign_server WHERE srvname = 'mine') + (SELECT count(*) FROM fleet.server WHERE server = 'mine')}), '0', 'which drops the foreign server, too');

for my $case ([ 'd1', 'busy direct' ], [ 'a1', 'busy agent' ])
{
    my ($server, $name) = @$case;
    $f->sql_as('alice', "SELECT fleet.create_job('$name'); SELECT fleet.add_step('$name', 's', 'SELECT pg_sleep(600)'); SELECT fleet.create_package('$name');"
          . ($server eq 'a1' ? "SELECT * FROM fleet.deploy_job('$name', server => 'a1');" : ''));
    $f->wait_for('parent', "SELECT state FROM fleet.deployment WHERE job = '$name'", 'deployed', "$name: deployed") if $server eq 'a1';
    $f->sql_as('alice', "SELECT fleet.add_task('$name', 't', job => '$name', server => '$server')");
    my $busy = $f->sql_as('alice', "SELECT fleet.run_parent_package('$name')");
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $busy", 'running', "$server: it is busy");
    is($f->sql("SELECT busy FROM fleet.server_status WHERE server = '$server'"), '1', "$server: with one job");
    for my $function (qw(remove_server unregister_server))
    {
        like($session{alice}->say("SELECT fleet.$function('$server')"), qr/^ERROR:  55006: server "$server" is running jobs$/m, "$server: $function while it is busy: refused");
    }
    is($session{$super}->say("SELECT count(*) FROM fleet.server AS s JOIN pg_foreign_server AS p ON p.srvname = s.server WHERE s.server = '$server'"), '1', "$server: it is still there");
    is($session{alice}->say("SELECT fleet.cancel_run($busy)"), 't', "$server: its job is canceled");
    $f->run_is($busy, 'canceled', "$server: and ends");
}
like($session{alice}->say("SELECT fleet.unregister_server('$_')"), qr/^ERROR:  2BP01: cannot remove server "$_" because tasks name it$/m, "$_ is not removed while tasks name it") for qw(a1 d1);

# run_as: a member may, others may not
$f->sql('CREATE ROLE batch LOGIN; GRANT batch TO alice');
$f->sql_as('alice', q{SELECT fleet.create_job('as batch'); SELECT fleet.add_step('as batch', '1', 'DO $x$BEGIN RAISE NOTICE ''i am % %'', current_user, session_user; END$x$', run_as => 'batch')});
my $id = $f->sql_as('alice', q{SELECT fleet.start_job('as batch')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'succeeded', 'run_as a role of which the owner is a member');
is($f->sql("SELECT message FROM fleet.log WHERE job_run_id = $id AND level = 'NOTICE'"), 'i am batch batch', 'the step is that role');
$f->fails(q{SELECT fleet.create_job('as super'); SELECT fleet.add_step('as super', '1', 'SELECT 1', run_as => '} . $super . q{')}, '42501', 'run_as somebody else: refused', as => 'alice');
$f->sql('REVOKE batch FROM alice');
$id = $f->sql_as('alice', q{SELECT fleet.start_job('as batch')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'failed', 'membership is checked when it runs, too');
is($f->sql("SELECT sqlstate, message FROM fleet.job_run WHERE job_run_id = $id"), '42501|the job\'s owner is no longer a member of role "batch"', 'with the reason');

# ---- nobody borrows the server's identity ------------------------------------------------------

my $port = $parent->port;
my $socket = $parent->host;
# what the operating-system user of the server has: a password file with the superuser's password
my $home = $ENV{HOME};
$parent->safe_psql('postgres', "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss-password'");
append_to_file("$home/.pgpass", "*:*:*:*:boss-password\n");
append_to_file("$home/.pg_service.conf", "[loop]\nhost=127.0.0.1\nport=$port\nuser=boss\npassword=boss-password\n");
chmod 0600, "$home/.pgpass";
$f->sql_as('bob', q{SELECT fleet.create_job('loop'); SELECT fleet.add_step('loop', '1', 'CREATE ROLE owned SUPERUSER')});
# The server process too has in its environment where to go and with which password.
{
    local @ENV{qw(PGHOST PGPASSWORD PGUSER)} = ($socket, 'boss-password', 'boss');
    $parent->restart;
}
delete $session{$_} for keys %session;
%session = map { $_ => FleetTest::Session->new($parent, 'dw', $_) } ($super, 'alice', 'bob');
$f->sql('GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO bob');

# Defines a server and a task on it, as bob; what became of the task, and whether it had an effect.
sub attack
{
    my ($name, $fdw, $options, $mapping) = @_;
    my $list = sub { my ($h) = @_; return join ', ', map { "$_ " . FleetTest::quote_literal($h->{$_}) } sort keys %$h };
    my $said = $session{bob}->say("CREATE SERVER $name FOREIGN DATA WRAPPER $fdw OPTIONS (" . $list->({ port => $port, dbname => 'postgres', %$options }) . ');'
          . "CREATE USER MAPPING FOR bob SERVER $name" . (%$mapping ? ' OPTIONS (' . $list->($mapping) . ')' : '') . ';'
          . "SELECT fleet.register_server('$name', mode => 'direct'); SELECT fleet.create_package('$name'); SELECT fleet.add_task('$name', 't', job => 'loop', server => '$name')");
    return "defined: $1" if $said =~ /^ERROR:  (\w{5}): /m;
    my $r = $session{bob}->sql("SELECT fleet.run_parent_package('$name')");
    my $state = $f->wait_run($r);
    my $owned = $f->sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'owned'});
    return "$state, owned: $owned" if $state ne 'failed' || $owned ne '0';
    return $session{bob}->sql("SELECT sqlstate, message FROM fleet.task_run WHERE run_id = $r");
}
my $none = qr/^2F003\|the user mapping of role "bob" for foreign server "\w+" has no password, which only superusers may do without$/;
my $not_asked = qr/^28000\|refused: the server let the session in without asking for the password of the user mapping; /;
my $wrong = qr/^28P01\|.*password authentication failed for user "boss"$/;
# The way is open: with boss's password in his mapping the attack succeeds.
is(attack('open_way', 'pg_fleet', { host => '127.0.0.1' }, { user => 'boss', password => 'boss-password' }), 'succeeded, owned: 1', 'with the password of boss in his own mapping bob could do it');
$f->sql('DROP ROLE owned');
my $n = 0;
for my $attack (
    [ 'socket, trust, no password',   { host => $socket }, { user => $super }, $none ],
    [ 'socket, trust, with password', { host => $socket }, { user => $super, password => 'anything' }, $not_asked ],
    [ 'the environment\'s host',      {}, { user => $super, password => 'anything' }, $not_asked ],
    [ 'the environment\'s password',  { host => '127.0.0.1' }, { user => 'boss' }, $none ],
    [ 'the environment\'s user and password', { host => '127.0.0.1' }, {}, $none ],
    [ 'empty password',               { host => '127.0.0.1' }, { user => 'boss', password => '' }, $none ],
    [ 'wrong password, the right one in the password file', { host => '127.0.0.1' }, { user => 'boss', password => 'wrong' }, $wrong ],
    [ 'host name of this machine',    { host => 'localhost' }, { user => 'boss', password => 'wrong' }, $wrong ],
    [ 'two hosts, the second asks nothing', { host => "127.0.0.1,$socket", port => "1,$port" }, { user => $super, password => 'anything' }, $not_asked ],
    [ 'hostaddr',                     { host => 'elsewhere', hostaddr => '127.0.0.1' }, { user => 'boss', password => 'wrong' }, $wrong ],
    [ 'a URI in dbname',              { host => '127.0.0.1', dbname => "postgresql://boss:boss-password\@127.0.0.1:$port/postgres" }, { user => 'bob', password => 'bob' }, qr/^3D000\|/ ],
    [ 'a connection string in dbname', { host => '127.0.0.1', dbname => 'dbname=postgres user=boss password=boss-password' }, { user => 'bob', password => 'bob' }, qr/^3D000\|/ ],
    [ 'option passfile',              { host => '127.0.0.1' }, { user => 'boss', passfile => "$home/.pgpass" }, qr/^defined: 42501$/ ],
    [ 'option passfile of the server', { host => '127.0.0.1', passfile => "$home/.pgpass" }, { user => 'boss' }, qr/^defined: HV00D$/ ],
    [ 'option service',               { service => 'loop' }, { user => 'boss', password => 'x' }, qr/^defined: HV00D$/ ],
    [ 'option options',               { host => '127.0.0.1', options => '-csession_authorization=boss' }, { user => 'bob', password => 'bob' }, qr/^defined: 42501$/ ],
    [ 'option sslkey',                { host => '127.0.0.1' }, { user => 'boss', sslkey => '/etc/passwd' }, qr/^defined: 42501$/ ],
    [ 'option gssencmode',            { host => '127.0.0.1', gssencmode => 'require' }, { user => 'boss' }, qr/^defined: 42501$/ ],
    [ 'option password_required',     { host => $socket }, { user => $super, password_required => 'false' }, qr/^defined: 42501$/ ])
{
    my ($name, $options, $mapping, $expected) = @$attack;
    like(attack('loop' . ++$n, 'pg_fleet', $options, $mapping), $expected, "attack by $name: refused");
}
like($session{bob}->say('ALTER USER MAPPING FOR bob SERVER loop1 OPTIONS (ADD password_required \'false\')'), qr/^ERROR:  42501: permission denied to set option "password_required"$/m,
    'password_required = false is not for users, by ALTER either');
# foreign servers of other wrappers obey the same rule
$f->sql("CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw, dblink_fdw TO bob");
for my $fdw (qw(postgres_fdw dblink_fdw))
{
    like(attack("via_$fdw", $fdw, { host => $socket }, { user => $super, password => 'anything' }), $not_asked, "attack by a server of $fdw: refused when connecting");
    like(attack("passfile_$fdw", $fdw, { host => '127.0.0.1', passfile => "$home/.pgpass" }, { user => 'boss', password => 'wrong' }),
        qr/^42501\|option "passfile" of foreign server "passfile_$fdw" or its user mapping is not allowed$/, "attack by option passfile of a server of $fdw: refused at use");
}
unlink "$home/.pgpass", "$home/.pg_service.conf";
%session = ();
is($f->sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'owned'}), '0', 'no attack had an effect');

# ---- the password is nowhere -------------------------------------------------------------------

# failures of each kind, with the canary in the mapping
$f->sql_as('alice', sprintf q{SELECT fleet.add_server('bad%d', '%s', username => '%s', password => '%s', mode => '%s')}, @$_)
  for [ 1, $f->conninfo('d1'), 'nobody', $canary, 'direct' ], [ 2, 'host=127.0.0.1 port=1 dbname=dw', 'etl', $canary, 'agent' ],
  [ 3, $f->conninfo('d1') =~ s/dbname=dw/dbname=nowhere/r, 'etl', $canary, 'direct' ], [ 4, $f->conninfo('d1'), 'etl', $canary, 'agent' ];
my %reason = (
    1 => qr/^failed\|28P01\|.*password authentication failed for user "nobody"/,
    2 => qr/^queued\|\|$/, # it is tried again, until it is there
    3 => qr/^failed\|3D000\|.*database "nowhere" does not exist/,
    4 => qr/^failed\|3F000\|/);
for my $i (1 .. 4)
{
    $f->sql_as('alice', "SELECT fleet.create_package('bad$i'); SELECT fleet.add_task('bad$i', 't', job => 'alice job', server => 'bad$i')");
    my $r = $f->sql_as('alice', "SELECT fleet.run_parent_package('bad$i')");
    $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = 'bad$i'", 't', "bad$i: the server has an error");
    if ($i == 2) { $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $r", 'queued', 'bad2: its task waits for the server'); }
    else { $f->run_is($r, 'failed', "bad$i: its run fails"); }
    like($f->sql("SELECT state || '|' || coalesce(sqlstate, '') || '|' || coalesce(message, '') FROM fleet.task_run WHERE run_id = $r"), $reason{$i}, "bad$i: with the reason");
    next unless $i == 2;
    is($f->sql_as('alice', "SELECT fleet.cancel_run($r)"), 't', 'bad2: canceled');
    $f->run_is($r, 'canceled', 'bad2: is canceled');
}
# wrong arguments beside a password: the error does not repeat it
for my $call (
    [ "SELECT fleet.add_server('a1', 'host=x', username => 'u', password => '$canary')", '42710' ],
    [ "SELECT fleet.add_server('new', 'host=x bogus=1', username => 'u', password => '$canary')", '42601' ],
    [ "SELECT fleet.add_server('new', 'host=x service=1', username => 'u', password => '$canary')", 'HV00D' ],
    [ "SELECT fleet.add_server('new', 'host=x', username => NULL, password => '$canary', mode => 'nonsense')", '22023' ],
    [ "SELECT fleet.add_server('new', 'host=x password=$canary', username => 'u')", '22023' ],
    [ "SELECT fleet.add_server('new', 'host=x =$canary', username => 'u')", '42601' ])
{
    my ($sql, $sqlstate) = @$call;
    my ($r, $o, $e) = $f->try_as('alice', $sql);
    # psql shows the statement itself after LINE; what the server says is everything else
    $e =~ s/^LINE \d+:.*\n.*//mg;
    like($e, qr/ERROR:  $sqlstate: /, "wrong argument beside a password: $sqlstate");
    unlike($e, qr/\Q$canary\E/, 'and the error does not repeat the password');
}
my @tables = split /\n/, $f->sql(q{SELECT c.oid::regclass FROM pg_class c WHERE relnamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace, 'fleet_catalog'::regnamespace) AND relkind IN ('r', 'v')});
cmp_ok(scalar @tables, '>', 30, 'the tables and views that are looked through');
is($f->sql("SELECT count(*) > 0 FROM pg_user_mapping AS t WHERE t::text LIKE '%$canary%'"), 't', 'where it is meant to be, it is found');
for my $table (@tables)
{
    is($f->sql("SELECT count(*) FROM $table AS t WHERE t::text LIKE '%$canary%'"), '0', "not in $table");
}
is($f->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%cana' || 'ry-7c2f%' AND pid <> pg_backend_pid()"), '0', 'not in pg_stat_activity of the parent');
is($f->sql_on($_, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%cana' || 'ry-7c2f%' AND pid <> pg_backend_pid()"), '0', "not in pg_stat_activity of $_") for qw(a1 d1);
for my $role (qw(bob carol dave))
{
    is($f->sql_as($role, "SELECT count(*) FROM pg_user_mappings AS m WHERE m::text LIKE '%$canary%'"), '0', "$role cannot read it in the mappings");
}
for my $p ($f->processes('parent'), $f->processes('a1'))
{
    my $line = eval { slurp_file("/proc/$p/cmdline") } || '';
    unlike($line, qr/\Q$canary\E/, "not in the command line of process $p");
}
for my $node (qw(parent a1 d1))
{
    # statements that an error of a user's own statement made the server log are his, not ours
    my @lines = grep { /\Q$canary\E/ && !/STATEMENT:/ } split /\n/, slurp_file($f->node($node)->logfile);
    is("@lines", '', "not in the server log of $node");
}

$f->wait_for('parent', 'SELECT count(*) FROM fleet.run WHERE state NOT IN (\'succeeded\', \'failed\', \'canceled\')', '0', 'all runs are final');
$f->sql_on($_, "ALTER ROLE etl PASSWORD '$FleetTest::PASSWORD'") for qw(a1 d1);
$f->done;
