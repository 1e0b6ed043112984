# Definitions under attack: by roles that have no rights, by two sessions at once, by a parent that sends what it should not.
# What must hold: nobody runs anything with rights that are not his, the agent stays, and no name is left that is nobody's.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, slots => 8, delays => 0, witness => 0, conf => 'fleet.max_runners = 2');
my $pw = $FleetTest::PASSWORD;
$f->sql_on($_, q{CREATE ROLE eve LOGIN; CREATE SCHEMA eve AUTHORIZATION eve; CREATE ROLE bob LOGIN}) for qw(parent a1);
$f->sql(qq{CREATE ROLE alice LOGIN; GRANT USAGE ON FOREIGN SERVER a1 TO alice, bob;
           CREATE USER MAPPING FOR alice SERVER a1 OPTIONS (user 'etl', password '$pw'); CREATE USER MAPPING FOR bob SERVER a1 OPTIONS (user 'etl', password '$pw')});

# ---- a trigger of ours on a table of hers ------------------------------------------------------

# A column's type decides what compares it: with our rights, that would be hers to say.
$f->sql(q{GRANT EXECUTE ON FUNCTION fleet_link.store_edit() TO bob});
for my $role (qw(eve bob))
{
    $f->sql(qq{CREATE SCHEMA IF NOT EXISTS $role AUTHORIZATION $role});
    my ($rc, $out, $err) = $f->try_as($role, <<"SQL");
CREATE TYPE evil AS (v text);
CREATE FUNCTION evil_text(evil) RETURNS text LANGUAGE plpgsql AS 'BEGIN EXECUTE ''ALTER ROLE $role SUPERUSER''; RETURN ''no''; END';
CREATE CAST (evil AS text) WITH FUNCTION evil_text(evil) AS IMPLICIT;
CREATE TABLE mine (kind evil, id integer);
CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION fleet_link.store_edit();
BEGIN;
SELECT fleet.create_package('of $role');
INSERT INTO mine SELECT ROW('x')::evil, i FROM generate_series(1, 50) AS i;
COMMIT;
SQL
    like($err, $role eq 'eve' ? qr/ERROR:\s+42501: permission denied for function (?:fleet_link\.)?store_edit/ : qr/ERROR:\s+39P01:/, "$role does not have our trigger function read her rows");
    is($f->sql("SELECT rolsuper FROM pg_roles WHERE rolname = '$role'"), 'f', 'and has no more rights than before');
}
is($f->sql(q{SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc AS p WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace)
             AND p.prorettype = 'trigger'::regtype AND has_function_privilege('eve', p.oid, 'EXECUTE')}), '', 'no function of ours can be made a trigger by everybody');

# ---- documents ---------------------------------------------------------------------------------

my $q = q{'00000000-0000-0000-0000-0000000000ee'};
my $task = q({"task_no": 0, "name": "t", "kind": "sql", "sql": "SELECT 1", "params": {}, "throttle": 0, "completion": "continue", "min_share": 1, "balance": "shortest_finish", "join_type": "all", "on_lost": "fail", "retries": 0, "retry_wait_us": 1000, "retry_max_us": 1000});
my $second = $task =~ s/"task_no": 0, "name": "t"/"task_no": 1, "name": "u"/r;
sub job
{
    my ($name, $tasks, $edges) = @_;
    return qq({"name": "$name", "owner": "x", "params": {}, "leaves_clean": false, "packages": {"p $name": {"name": "p $name", "params": {}, "tasks": [$tasks], "precedence": [$edges], "jobs": {}, "packages": {}}}, )
      . qq("steps": [{"name": "s", "step_no": 1, "command": null, "package": "p $name", "on_success": "next", "on_failure": "quit_failure", "retries": 0, "retry_wait_us": 1, "retry_max_us": 1, "on_unknown": "fail", "single": true}]});
}
$f->sql_as('eve', "SELECT fleet_link.agent_hello(2, $q, 1, 'eve')", on => 'a1');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_package('first'); SELECT fleet.add_task('first', 't', sql => 'SELECT 1'); SELECT fleet.run_parent_package('first')});
$f->wait_for('a1', q{SELECT state FROM fleet.run}, 'succeeded', 'an agent is there');
my $pid = $f->agent_pid('a1');
my $n = 0;
for my $case ([ 'a task of kind package that is SQL', $task =~ s/"sql", "sql"/"package", "sql"/r, '' ],
    [ 'a task of kind job that is SQL', $task =~ s/"sql", "sql"/"job", "sql"/r, '' ],
    [ 'a task of kind sql that is a package', $task =~ s/"sql": "SELECT 1"/"package": "x"/r, '' ],
    [ 'a final task before another one', ($task =~ s/"params"/"final": true, "params"/r) . ", $second", '{"from": 0, "to": 1, "on_outcome": "success"}' ],
    [ 'a handler after a task', "$task, " . ($second =~ s/"params"/"catch": true, "params"/r), '{"from": 0, "to": 1, "on_outcome": "failure"}' ],
    [ 'tasks that are numbered wrongly', $second, '' ],
    [ 'a wait that is negative', $task =~ s/"retry_wait_us": 1000/"retry_wait_us": -5/r, '' ])
{
    my ($what, $tasks, $edges) = @$case;
    my $name = 'e' . $n++;
    my $text = FleetTest::quote_literal(job($name, $tasks, $edges));
    my $hash = "encode(substr(sha256(convert_to($text, 'UTF8')), 1, 16), 'hex')::uuid";
    my ($rc, $out, $err) = $f->try_as('eve', "SELECT fleet_link.agent_document($q, 1, $hash, $text); SELECT * FROM fleet_link.agent_start($q, 1, ARRAY[gen_random_uuid()], '{$name}', NULL, NULL, ARRAY[$hash])", on => 'a1');
    like($err, qr/ERROR:\s+(?:42P17|22023):/, "$what: the document is refused") or diag("$rc $out");
    $f->fails("SELECT fleet_link.agent_deploy($q, 1, $text)", '(?:42P17|22023|23514)', "$what: it is not deployed", as => 'eve', on => 'a1');
}
is($f->sql_as('eve', "SELECT fleet_link.agent_deploy($q, 1, " . FleetTest::quote_literal(job('good', "$task, $second", '{"from": 0, "to": 1, "on_outcome": "success"}')) . ')', on => 'a1'), '', 'one in which all is right is');
# what is in a table nevertheless ends what runs it, and not the agent
my ($bad) = $f->node('a1')->safe_psql($FleetTest::DB, <<'SQL') =~ /(\d+)\z/;
BEGIN;
SET LOCAL ROLE etl;
SELECT fleet.create_package('bad'); SELECT fleet.add_task('bad', 't', sql => 'SELECT 1'); SELECT fleet.run_parent_package('bad');
RESET ROLE;
UPDATE fleet_catalog.definition AS d SET body = jsonb_set(d.body, '{tasks,0,kind}', '"package"') FROM fleet_catalog.run AS r WHERE r.definition = d.hash AND r.package = 'bad';
COMMIT;
SQL
$f->wait_for('a1', "SELECT state || ' ' || message FROM fleet.run WHERE run_id = $bad", 'failed the snapshot has an invalid task "t"', 'a row that cannot be fails its run');
is($f->agent_pid('a1'), $pid, 'the agent has not ended over any of them');

# ---- rights that go while one waits ------------------------------------------------------------

# Sends without waiting for an answer; the next say() has it too.
sub send_to { my ($session, $sql) = @_; print { $session->{in} } "$sql\n;\n"; $session->{in}->flush; return; }
# One transaction holds what the second call waits for; what the second one says.
sub meanwhile
{
    my ($role, $first, $second, $name, %opt) = @_;
    my $holds = FleetTest::Session->new($f->node('parent'), $FleetTest::DB, $opt{first_as});
    my $waits = FleetTest::Session->new($f->node('parent'), $FleetTest::DB, $role);
    my $waiter = $waits->say('SELECT pg_backend_pid()');
    $holds->sql("BEGIN; $first");
    send_to($waits, $second);
    $f->wait_for('parent', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $waiter", 't', "$name: it waits");
    $holds->sql('COMMIT');
    return $waits->say('SELECT 1');
}
$f->sql(q{SET ROLE alice; SELECT fleet.create_job('j'); SELECT fleet.add_step('j', 's1', 'SELECT 1'); SELECT fleet.create_job('k'); SELECT fleet.add_step('k', 's1', 'SELECT 1');
          SELECT fleet.create_package('p'); SELECT fleet.add_task('p', 't', sql => 'SELECT 1'); SELECT fleet.create_package('q', overlap => 'skip'); SELECT fleet.add_task('q', 't', sql => 'SELECT 1')});
like(meanwhile('alice', q{SELECT fleet.alter_job('j', owner => 'postgres')}, q{SELECT fleet.add_step('j', 's2', 'SELECT ''hers''')}, 'add_step()'), qr/ERROR:\s+42501:/, 'a job that was given away meanwhile is not hers any more');
like(meanwhile('alice', q{SELECT fleet.alter_job('k', owner => 'postgres')}, q{SELECT fleet.alter_job('k', description => 'x')}, 'alter_job()'), qr/ERROR:\s+42501:/, 'nor does she take it back by a change');
like(meanwhile('alice', q{SELECT fleet.alter_package('p', owner => 'postgres')}, q{SELECT fleet.add_task('p', 'u', sql => 'SELECT ''hers''')}, 'add_task()'), qr/ERROR:\s+42501:/, 'nor is a package');
is($f->sql(q{SELECT string_agg(owner || ' ' || job, ', ' ORDER BY job) FROM fleet.job WHERE job IN ('j', 'k')}) . ' ' . $f->sql(q{SELECT count(*) FROM fleet.step WHERE job = 'j'}), 'postgres j, postgres k 1', 'all is as it was given');
like(meanwhile('alice', q{SELECT fleet.alter_package('q', new_name => 'other')}, q{SELECT fleet.run_parent_package('q')}, 'run_parent_package()'), qr/ERROR:\s+42704:.*"q"/, 'a package that has another name meanwhile is not run by the old one');

# ---- names that go while one waits -------------------------------------------------------------

$f->sql(q{SET ROLE alice; SELECT fleet.create_job('named'); SELECT fleet.add_step('named', 's1', 'SELECT 1'); SELECT fleet.create_package('inner'); SELECT fleet.add_task('inner', 't', sql => 'SELECT 1');
          SELECT fleet.create_package('users'); SELECT fleet.add_task('users', 'x', job => 'named'); SELECT fleet.create_job('outer'); SELECT fleet.create_package('more'); SELECT fleet.create_package('new')});
like(meanwhile('alice', q{SELECT fleet.alter_job('named', new_name => 'first')}, q{SELECT fleet.alter_job('named', new_name => 'second')}, 'alter_job(new_name)', first_as => 'alice'), qr/ERROR:\s+42704:/, 'a job is renamed twice at once: the second has no such job');
is($f->sql(q{SELECT job FROM fleet.task WHERE package = 'users'}), 'first', 'and its task has the name that there is');
for my $case ([ q{SELECT fleet.add_task('more', 'a', job => 'first')}, q{SELECT fleet.drop_job('first')}, qr/ERROR:\s+2BP01:.*tasks run it/, 'a job is not dropped under a task that is being added' ],
    [ q{SELECT fleet.alter_task('more', 'a', nested => 'inner')}, q{SELECT fleet.drop_package('inner')}, qr/ERROR:\s+2BP01:/, 'nor a package under one that is to run it' ],
    [ q{SELECT fleet.add_step('outer', 's', package => 'inner')}, q{SELECT fleet.drop_package('inner')}, qr/ERROR:\s+2BP01:/, 'nor under a step' ],
    [ q{SELECT fleet.add_task('new', 'n', nested => 'inner'); SELECT fleet.add_task('new', 'j', job => 'first')}, q{SELECT fleet.alter_package('inner', new_name => 'renamed'); SELECT fleet.alter_job('first', new_name => 'last')}, qr/\A[^E]*\z/, 'who renames both waits for it' ])
{
    my ($first, $second, $like, $what) = @$case;
    like(meanwhile('alice', $first, $second, $what, first_as => 'alice'), $like, $what);
}
is($f->sql(q{SELECT string_agg(coalesce(nested, job), ' ' ORDER BY task) FROM fleet.task WHERE package = 'new'}), 'last renamed', 'and what was added then has the new names');
like(meanwhile('alice', q{SELECT fleet.drop_package('renamed', cascade => true)}, q{SELECT fleet.add_task('users', 'late', nested => 'renamed')}, 'a package is dropped', first_as => 'alice'), qr/ERROR:\s+42704:/, 'what is dropped meanwhile is not named');

$f->sql(qq{SET ROLE alice; SELECT fleet.create_package('there')});
my $server = sub { my ($name) = @_; $f->sql("SELECT fleet.add_server('$name', '" . $f->conninfo('a1') . "', username => 'etl', password => '$pw', mode => 'direct'); GRANT USAGE ON FOREIGN SERVER $name TO alice"); return; };
$server->('s1');
like(meanwhile(undef, q{SET ROLE alice; SELECT fleet.add_task('there', 'a', job => 'last', server => 's1')}, q{SELECT fleet.remove_server('s1')}, 'remove_server()'), qr/ERROR:\s+2BP01:/, 'a server is not removed under a task that is being added');
like(meanwhile(undef, q{SET ROLE alice; SELECT fleet.add_task('there', 'b', job => 'last', server => 's1')}, q{ALTER SERVER s1 RENAME TO s2}, 'ALTER SERVER'), qr/\A[^E]*\z/, 'who renames it waits for it');
is($f->sql(q{SELECT string_agg(server, ' ' ORDER BY task) FROM fleet.task WHERE package = 'there'}), 's2 s2', 'and what was added then has the new name');
$f->sql(q{SELECT fleet.drop_package('there')});
like(meanwhile('alice', q{SELECT fleet.remove_server('s2')}, q{SELECT fleet.add_task('more', 'gone', job => 'last', server => 's2')}, 'add_task() on a server'), qr/ERROR:\s+42704:/, 'a server that is removed meanwhile is not named');

# ---- run keys ----------------------------------------------------------------------------------

$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_job('theirs'); SELECT fleet.add_step('theirs', 's', 'SELECT 1')});
my $key = q{SELECT fleet.start_job('theirs', server => 'a1', run_key => '2026-11-29')};
my ($his, $hers) = map { $f->sql_as($_, $key) } qw(bob alice);
isnt($hers, $his, 'a key of a job that only a server has, which another role has used, is free');
is($f->sql_as('alice', $key), $hers, 'and then it is used');
$f->wait_for('parent', "SELECT string_agg(owner || ' ' || state, ', ' ORDER BY owner) FROM fleet.job_run WHERE job = 'theirs'", 'alice succeeded, bob succeeded', 'both ran');
$f->sql_as('bob', q{SELECT fleet.start_job('later', server => 'a1', run_key => 'k')});
$hers = $f->sql_as('alice', q{SELECT fleet.create_job('later'); SELECT fleet.add_step('later', 's', 'SELECT 1'); SELECT fleet.start_job('later', run_key => 'k')}) =~ s/.*\n//sr;
$f->wait_for('parent', "SELECT owner || ' ' || state FROM fleet.job_run WHERE job_run_id = $hers", 'alice succeeded', 'so is one that was used before the job was there');
$f->sql_as('bob', q{SELECT fleet.create_package('keyed'); SELECT fleet.add_task('keyed', 't', sql => 'SELECT 1'); SELECT fleet.run_parent_package('keyed', run_key => 'k'); SELECT fleet.drop_package('keyed')});
$f->sql_as('alice', q{SELECT fleet.create_package('keyed'); SELECT fleet.add_task('keyed', 't', sql => 'SELECT 1')});
$f->fails(q{SELECT fleet.run_parent_package('keyed', run_key => 'k')}, '42710', 'a key of a package that another role had is no run of hers, and she is told', as => 'alice', help => 1);

# ---- renaming much -----------------------------------------------------------------------------

# In pieces, and without looking through what others have learned.
$f->sql(q{INSERT INTO fleet_catalog.duration SELECT 'somebody', 't' || i % 100, i::text, '', 1, 1, 1 FROM generate_series(1, 20000) AS i;
          INSERT INTO fleet_catalog.duration SELECT 'long', 't' || i % 3, i::text, '', 1, 1, 1 FROM generate_series(1, 1200) AS i});
$f->sql('VACUUM ANALYZE fleet_catalog.duration');
is($f->parent->safe_psql($FleetTest::DB, <<'SQL'), "t\n500\nt\n1000\nf\n1200\nf\n0\n0", 'learned durations get new names some at a time, by the key');
BEGIN;
INSERT INTO fleet_catalog.renaming (kind, package, old_name, new_name) VALUES ('package', NULL, 'long', 'longer'), ('task', 'longer', 't1', 'u1'), ('job', NULL, 'no job', 'none');
SELECT fleet_catalog.apply_renamings(500);
SELECT count(*) FROM fleet_catalog.duration WHERE package = 'longer';
SELECT fleet_catalog.apply_renamings(500);
SELECT count(*) FROM fleet_catalog.duration WHERE package = 'longer';
SELECT fleet_catalog.apply_renamings(5000);
SELECT count(*) FROM fleet_catalog.duration WHERE package = 'longer';
SELECT EXISTS (SELECT FROM fleet_catalog.renaming);
SELECT count(*) FROM fleet_catalog.duration WHERE package = 'longer' AND task = 't1';
SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'fleet_catalog.duration'::regclass;
COMMIT;
SQL
$f->sql(q{SELECT fleet.create_package('long'); SELECT fleet.add_task('long', 't0', sql => 'SELECT 1'); UPDATE fleet_catalog.duration SET package = 'long' WHERE package = 'longer'});
$f->sql(q{SELECT fleet.alter_package('long', new_name => 'longest')});
$f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.duration WHERE package = 'longest'}, '1200', 'the agent goes on until all have them');
$f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.renaming}, '0', 'and then there is nothing left to do');

# ---- what a name means to others ---------------------------------------------------------------

$f->sql(q{SELECT fleet.create_package('scopes'); SELECT fleet.add_task('scopes', 'load', sql => 'SELECT ''outer'''); SELECT fleet.add_task('scopes', 'c', container => true, after => '{load}');
          SELECT fleet.add_task('scopes', 'c/x', sql => 'SELECT ''inner'''); SELECT fleet.add_task('scopes', 'c/y', sql => 'SELECT fleet.param(''v'')', params => '{"v": {"$output": "load"}}', after => '{x}')});
$f->fails(q{SELECT fleet.alter_task('scopes', 'c/x', new_name => 'load')}, '42P17', 'a task does not take the name that another one means outside', help => 1);
$f->fails(q{SELECT fleet.alter_task('scopes', 'load', new_name => 'x')}, '42P17', 'nor is one renamed to what is nearer to who names it', help => 1);
$f->sql(q{SELECT fleet.alter_task('scopes', 'load', new_name => 'z')});
is($f->sql(q{SELECT params FROM fleet.task WHERE package = 'scopes' AND task = 'c/y'}), '{"v": {"$output": "z"}}', 'a name that is free is followed');

# ---- going back --------------------------------------------------------------------------------

$f->sql(q{SELECT fleet.create_package('order'); SELECT fleet.add_task('order', 'a', sql => 'SELECT 1'); SELECT fleet.add_task('order', 'b', sql => 'selec 2', check_syntax => false, params => '{"x": {"$output": "a"}}', after => '{a}');
          SELECT fleet.alter_task('order', 'b', before_task => 'a'); SELECT fleet.create_job('unread'); SELECT fleet.add_step('unread', 's', 'selec 3', check_syntax => false)});
my %version = split /[| \n]/, $f->sql(q{SELECT name, max(version) FROM fleet.version WHERE name IN ('order', 'unread') GROUP BY 1});
$f->sql($_) for q{SELECT fleet.alter_task('order', 'b', params => '{}')}, q{SELECT fleet.alter_step('unread', 's', retries => 3)};
$f->sql($_) for qq{SELECT fleet.restore_package('order', $version{order})}, qq{SELECT fleet.restore_job('unread', $version{unread})};
is($f->sql(q{SELECT string_agg(task || ' ' || params::text, ', ' ORDER BY task_no) FROM fleet.task WHERE package = 'order'}), 'b {"x": {"$output": "a"}}, a {}', 'a version is restored in which a task refers to a later one, and whose SQL was never read');
is($f->sql(q{SELECT sql || ' ' || retries FROM fleet.step WHERE job = 'unread'}), 'selec 3 0', 'that of a job, too');
$f->sql(q{SELECT fleet.alter_task('order', 'b', sql => 'SELECT 2')});
is($f->sql(q{CREATE TEMPORARY TABLE d AS SELECT fleet.export_package('order') AS d; SELECT fleet.drop_package('order'); SELECT count(*) FROM d, fleet.import_package(d.d); SELECT params FROM fleet.task WHERE package = 'order' AND task = 'b'}) =~ s/.*\n//sr, '{"x": {"$output": "a"}}', 'and imported');

# ---- deployments -------------------------------------------------------------------------------

$f->sql(q{SELECT fleet.create_job('leaf'); SELECT fleet.add_step('leaf', 's', 'SELECT 1'); SELECT fleet.create_package('nested'); SELECT fleet.add_task('nested', 't', sql => 'SELECT 1');
          SELECT fleet.create_package('deployed'); SELECT fleet.add_task('deployed', 'c', container => true); SELECT fleet.add_task('deployed', 'c/j', job => 'leaf'); SELECT fleet.add_task('deployed', 'c/n', nested => 'nested');
          SELECT fleet.add_task('deployed', 'i', sql => 'SELECT 1', for_each => 'SELECT 1 AS k, 2 AS w', cost => 'w', item_key => 'k'); SELECT fleet.create_job('top'); SELECT fleet.add_step('top', 's', package => 'deployed')});
$f->deploy('top');
is($f->sql_on('a1', q{SELECT cost || ' ' || item_key FROM fleet.task WHERE package = 'deployed' AND task = 'i'}), 'w k', 'cost and key of items are deployed with them');
$f->sql_on('a1', q{SET ROLE eve; SELECT fleet.create_package('of eve'); SELECT fleet.add_task('of eve', 't', job => 'top')});
$f->sql(q{SELECT fleet.undeploy_job('top', server => 'a1')});
$f->wait_for('parent', q{SELECT state || coalesce(' ' || message, '') FROM fleet.deployment WHERE job = 'top'}, 'removed', 'a stranger who names it does not keep a job from being removed');
is($f->sql_on('a1', q{SELECT coalesce(string_agg(job, ', '), '') FROM fleet.job WHERE job IN ('top', 'leaf')}) . $f->sql_on('a1', q{SELECT count(*) FROM fleet.package WHERE package IN ('deployed', 'nested')}), '0', 'and with it goes what only its containers used');

# what two sessions have made at once, and no run begins, does not keep others from seeing their deployments
$f->deploy('leaf');
$f->sql(q{SELECT fleet.create_package('circle'); SELECT fleet.add_task('circle', 't', nested => 'nested'); SELECT fleet.create_job('round'); SELECT fleet.add_step('round', 's', package => 'circle')});
$f->deploy('round');
$f->sql(q{UPDATE fleet_catalog.task AS t SET kind = 'package', sql = NULL, package = 'circle' FROM fleet_catalog.package AS p WHERE p.package_id = t.package_id AND p.name = 'nested'});
is($f->sql(q{SELECT string_agg(job || ' ' || drift, ', ' ORDER BY job) FROM fleet.deployment WHERE job IN ('leaf', 'round')}), 'leaf false, round true', 'a package that contains itself is a deployment of another version');

# ---- jobs that wait for each other -------------------------------------------------------------

$f->sql(q{SELECT fleet.create_package('work'); SELECT fleet.add_task('work', 't', sql => 'SELECT 1'); SELECT fleet.create_job('both');
          CREATE TABLE gate (n integer); GRANT SELECT ON gate TO PUBLIC; SELECT fleet.add_step('both', 'a', 'LOCK TABLE gate IN ACCESS SHARE MODE'); SELECT fleet.add_step('both', 'b', package => 'work'); SELECT fleet.add_step('both', 'c', 'SELECT 3')});
my $gate = FleetTest::Session->new($f->parent, $FleetTest::DB);
$gate->sql('BEGIN; LOCK TABLE gate');
$f->sql(q{SELECT fleet.start_job('both') FROM generate_series(1, 2)});
$f->wait_for('parent', q{SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted}, '2', 'two jobs have all runners');
$gate->sql('COMMIT');
$f->wait_for('parent', q{SELECT string_agg(state, ' ') FROM fleet.job_run WHERE job = 'both'}, 'succeeded succeeded', 'and do not keep them while their packages need some');

$f->done;
