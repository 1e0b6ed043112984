# Hooks: called after the fact, as their owner, with the event; retried; at least once over the end of an agent; told of no more than
# their owner may see; no loops; whatever one does, others' work goes on.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 0, direct => 1, delays => 0, witness => 0, conf => "fleet.max_runners = 4");
my $note = q{INSERT INTO told.call (params, context) VALUES (current_setting('fleet.params')::jsonb, current_setting('fleet.context')::jsonb)};
$f->sql(<<'SQL');
CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN; CREATE ROLE reads LOGIN; GRANT fleet_reader TO reads;
CREATE SCHEMA told; GRANT USAGE, CREATE ON SCHEMA told TO PUBLIC;
CREATE TABLE told.call (n bigint GENERATED ALWAYS AS IDENTITY, who name DEFAULT current_user, params jsonb, context jsonb);
GRANT ALL ON told.call TO PUBLIC;
SQL
$f->package('bad', t => { sql => 'SELECT 1 / 0' });
$f->package('good', t => { sql => 'SELECT 1' });

sub add
{
    my ($name, %opt) = @_;
    my $as = delete $opt{as};
    my $query = 'SELECT fleet.add_hook(' . join(', ', FleetTest::quote_literal($name), map { "$_ => " . ($opt{$_} =~ /^(?:\d+|true|false)$/ ? $opt{$_} : FleetTest::quote_literal($opt{$_})) } sort keys %opt) . ')';
    return defined $as ? $f->sql_as($as, $query) : $f->sql($query);
}
sub drop { my ($name) = @_; $f->sql('SELECT fleet.drop_hook(' . FleetTest::quote_literal($name) . '); TRUNCATE told.call'); return; }
sub calls_are { my ($query, $expected, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $f->wait_for('parent', $query, $expected, $name); return; }
sub agent_ends { my $pid = $f->agent_pid; $f->sql("SELECT pg_terminate_backend($pid)"); $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', 'the agent ends'); $f->sql('SELECT fleet_link.keep_agent()'); return; }

# ---- a call ------------------------------------------------------------------------------------

add('note', sql => $note, on_event => '{run_failed}');
add('of good', sql => $note, on_event => '{run_failed,run_succeeded}', package => 'good');
my $run = $f->start('bad');
$f->run_is($run, 'failed', 'a run fails');
calls_are(q{SELECT count(*) FROM told.call}, '1', 'a hook is called');
is($f->sql(q{SELECT concat_ws('|', who, params->>'kind', params->>'package', params->>'run_id', params->>'message', context->>'hook', context->>'attempt', params->>'event_id' = context->>'event_id') FROM told.call}),
    join('|', $f->sql('SELECT current_user'), 'run_failed', 'bad', $run, $f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), 'note', 1, 't'), 'as its owner, with the event');
is($f->sql(q{SELECT params - 'raised_at' = (SELECT to_jsonb(e) - 'raised_at' FROM fleet.event AS e WHERE e.event_id = (c.params->>'event_id')::bigint) FROM told.call AS c}), 't', '… as the view has it');
is($f->sql(q{SELECT last_state, last_attempts, failures, last_event_id = (SELECT (params->>'event_id')::bigint FROM told.call) FROM fleet.hooks WHERE hook = 'note'}), 'succeeded|1|0|t', 'how it ended is in fleet.hooks');
$f->run_is($f->start('good'), 'succeeded', 'another run');
calls_are(q{SELECT string_agg(concat_ws(' ', context->>'hook', params->>'kind'), ', ' ORDER BY n) FROM told.call}, 'note run_failed, of good run_succeeded', 'calls the hook of its package, of the kind that it is for');
$f->sql(q{SELECT fleet.alter_package('good', new_name => 'better')});
$f->run_is($f->start('better'), 'succeeded', 'a run of the package with another name');
calls_are(q{SELECT count(*) FROM told.call WHERE params->>'package' = 'better'}, '1', '… to which the hook has followed');
drop('of good');

# ---- nobody waits for it -----------------------------------------------------------------------

my $lock = FleetTest::Session->new($f->parent, $FleetTest::DB);
$lock->sql('SELECT pg_advisory_lock(1)');
$f->sql(q{SELECT fleet.alter_hook('note', sql => 'SELECT pg_advisory_lock(1), pg_advisory_unlock(1); ' || sql) FROM fleet.hooks WHERE hook = 'note'});
my $waits = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'pg_fleet runner'};
$run = $f->start('bad');
$f->run_is($run, 'failed', 'a run ends');
calls_are($waits, '1', 'while the hook that it called has not');
$f->run_is($f->start('better'), 'succeeded', 'and others run');
$lock->sql('SELECT pg_advisory_unlock(1)');
calls_are("SELECT count(*) FROM told.call WHERE (params->>'run_id')::bigint = $run", '1', 'then it ends too');

# ---- the agent ends ----------------------------------------------------------------------------

$f->sql('TRUNCATE told.call');
$lock->sql('SELECT pg_advisory_lock(1)');
$run = $f->start('bad');
$f->run_is($run, 'failed', 'a run');
calls_are($waits, '1', 'its hook works');
$f->run_is($f->start('bad'), 'failed', 'another event waits for it');
my $working = $f->sql($waits =~ s/count\(\*\)/pid/r);
agent_ends();
calls_are("SELECT count(*) FROM pg_stat_activity WHERE pid = $working", '0', 'the next one ends the call of its predecessor');
calls_are($waits, '1', '… and calls again');
$lock->sql('SELECT pg_advisory_unlock(1)');
calls_are(q{SELECT count(DISTINCT params->>'event_id') FROM told.call}, '2', 'the next agent calls for both');
for my $point ([ hook_calls => 1, 'once' ], [ hook_done => 2, 'again, with the same number, as it is not stored that it was' ])
{
    my ($name, $calls, $how) = @$point;
    $f->sql('TRUNCATE told.call');
    $f->point('parent', $name, 'exit');
    $f->run_is($f->start('bad'), 'failed', 'a run');
    $f->point_fired('parent', $name, "an agent ends at $name");
    $f->sql('SELECT fleet_link.keep_agent()');
    calls_are(q{SELECT count(*) FROM fleet.hook_call WHERE event_id = (SELECT max(event_id) FROM fleet.event WHERE kind = 'run_failed')}, '1', 'the next one calls the hook');
    is($f->sql(q{SELECT count(DISTINCT params->>'event_id'), count(*) FROM told.call}), "1|$calls", "… $how");
}
drop('note');
$f->run_is($f->start('bad'), 'failed', 'a run without hooks');

# ---- it fails ----------------------------------------------------------------------------------

$f->sql('CREATE SEQUENCE told.tries');
my $hook_failures = q{SELECT count(*) FROM fleet.event WHERE kind = 'hook_failed'};
add('flaky', sql => "SELECT 1 / (nextval('told.tries') - 1); $note", on_event => '{run_failed}', retry_wait => '10ms');
add('all kinds', sql => $note, on_event => '{' . join(',', split /\n/, $f->sql('SELECT unnest(fleet_catalog.event_kinds())')) . '}');
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are(q{SELECT state, attempts FROM fleet.hook_call WHERE hook = 'flaky'}, 'succeeded|2', 'a call that fails is made again');
is($f->sql(q{SELECT context->>'attempt' FROM told.call WHERE context->>'hook' = 'flaky'}), '2', '… and knows that');
is($f->sql($hook_failures), '0', 'that is no failure of the hook');
$f->sql(q{SELECT fleet.alter_hook('flaky', sql => 'SELECT 1 / 0', retries => 1)});
$f->run_is($f->start('bad'), 'failed', 'a run') for 1 .. 2;
calls_are(q{SELECT string_agg(concat_ws(' ', state, attempts, sqlstate, message), ', ' ORDER BY event_id) FROM fleet.hook_call WHERE hook = 'flaky' AND state = 'failed'},
    'failed 2 22012 division by zero, failed 2 22012 division by zero', 'a hook that always fails is given up, for one event after the other');
is($f->sql(q{SELECT failures, sqlstate, message FROM fleet.hooks WHERE hook = 'flaky'}), '2|22012|division by zero', '… which fleet.hooks says');
is($f->sql(q{SELECT count(*), max(sqlstate), max(message) FROM fleet.event WHERE kind = 'hook_failed'}) =~ s/event \d+/event N/r, '1|22012|hook "flaky" failed for event N (2 attempts): division by zero', 'and one event: the first one in a row');
calls_are(q{SELECT count(*) FROM told.call WHERE context->>'hook' = 'all kinds' AND params->>'kind' = 'run_failed'}, '3', 'a hook for all kinds is called');
$f->sql(q{SELECT fleet.alter_hook('flaky', sql => 'SELECT 1')});
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are(q{SELECT failures, message IS NULL FROM fleet.hooks WHERE hook = 'flaky'}, '0|t', 'when it succeeds, it fails no longer');
$f->sql(q{SELECT fleet.alter_hook('flaky', sql => 'SELECT 1 / 0', retries => 0)});
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are($hook_failures, '2', 'and when it fails again, that is an event again');
is($f->sql(q{SELECT count(*) FROM told.call WHERE params->>'kind' = 'hook_failed'}), '0', 'which calls nobody');
like(PostgreSQL::Test::Utils::slurp_file($f->parent->logfile), qr/LOG:  hook failed: hook "flaky" failed for event/, 'and a line of the server\'s log');
drop('flaky'); drop('all kinds');

# ---- what cannot run in a transaction; a job -----------------------------------------------------

$f->sql('CREATE TABLE told.vacuumed ()');
add('vacuum', sql => 'VACUUM told.vacuumed', on_event => '{run_failed}');
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are(q{SELECT state, attempts FROM fleet.hook_call WHERE hook = 'vacuum'}, 'succeeded|1', 'what cannot run in a transaction does not');
drop('vacuum');
$f->sql_as('ann', q{SELECT fleet.create_job('tell', params => '{"run_id": null, "event": null, "more": 1}'); SELECT fleet.add_step('tell', 's', sql => $$INSERT INTO told.call (params) VALUES (current_setting('fleet.params')::jsonb)$$);
    SELECT fleet.create_package('hers'); SELECT fleet.add_task('hers', 't', sql => 'SELECT 1 / 0')});
add('job', as => 'ann', job => 'tell', on_event => '{run_failed}', retries => 0);
my $hers = 'SELECT fleet.run_parent_package(\'hers\')';
$run = $f->sql_as('ann', $hers);
calls_are(q{SELECT state FROM fleet.hook_call WHERE hook = 'job'}, 'succeeded', 'a job is executed');
is($f->sql(q{SELECT who, params->>'run_id', params->'event'->>'kind', params->>'more' FROM told.call}), "ann|$run|run_failed|1", 'with what it declares of the event');
$f->sql_as('ann', q{SELECT fleet.alter_step('tell', 's', sql => 'SELECT 1 / 0')});
$f->sql_as('ann', $hers);
calls_are(q{SELECT concat_ws(' ', state, sqlstate, regexp_replace(message, 'run \d+', 'run N')) FROM fleet.hook_call WHERE hook = 'job' ORDER BY event_id DESC LIMIT 1}, 'failed 09000 job "tell" did not succeed: run N is failed (tell: failed (22012): division by zero)', 'its failure is that of the hook');
is($f->sql(q{SELECT count(*) FROM fleet.hook_call WHERE hook = 'job'}), '2', 'and though its run has failed, it is not called for that');
$f->fails(q{SELECT fleet.drop_job('tell')}, '2BP01', 'a job that a hook runs is not dropped', like => qr/because hooks run it/, help => 1);
$f->sql(q{SELECT fleet.alter_job('tell', new_name => 'say')});
is($f->sql(q{SELECT job FROM fleet.hooks WHERE hook = 'job'}), 'say', 'and has followed it to another name');
$f->sql(q{SELECT fleet.drop_job('say', cascade => true); TRUNCATE told.call});
is($f->sql(q{SELECT count(*) FROM fleet.hooks}), '0', '… with it, it is');

# ---- runs that hooks start -------------------------------------------------------------------------

my $again = q{SET fleet.context = '{}'; SELECT fleet.run_parent_package('bad')};
add('again', sql => $again, on_event => '{run_failed}');
$f->run_is($f->start('bad'), 'failed', 'a run');
my $of_bad = q{SELECT string_agg(DISTINCT hook_depth || ' ' || runs, ', ' ORDER BY hook_depth || ' ' || runs) FROM (SELECT hook_depth, count(*) OVER (PARTITION BY hook_depth) AS runs FROM fleet.event WHERE kind = 'run_failed' AND event_id > (SELECT since_event FROM fleet_catalog.hook LIMIT 1)) AS d};
calls_are($of_bad, '0 1, 1 1', 'a hook that starts another one is not called for that, whatever it sets');
$f->run_is($f->start('bad'), 'failed', 'another run');
calls_are($of_bad, '0 2, 1 2', 'so it is');
drop('again');
$f->job('restless', { name => 's', sql => $again });
add('again', sql => q{SELECT fleet.start_job('restless')}, on_event => '{run_failed}', max_depth => 2);
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are($of_bad, '0 1, 1 1, 2 1, 3 1', 'one that asks for it is called for them, so often, also through jobs');
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are($of_bad, '0 2, 1 2, 2 2, 3 2', 'and no more');
$f->sql(q{SELECT fleet.create_package('outer'); SELECT fleet.add_task('outer', 'n', nested => 'bad')});
drop('again');
add('again', sql => q{SELECT fleet.run_parent_package('outer')}, on_event => '{task_failed}');
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are(q{SELECT string_agg(package || ' ' || hook_depth, ', ' ORDER BY package, hook_depth) FROM fleet.event WHERE kind = 'task_failed' AND event_id > (SELECT since_event FROM fleet_catalog.hook)}, 'bad 0, bad 1, outer 1', 'nested runs belong to it as well');
drop('again');

# ---- who is told of what -----------------------------------------------------------------------

$f->sql_as('bob', q{SELECT fleet.create_package('his'); SELECT fleet.add_task('his', 't', sql => 'SELECT 1 / 0')});
add("of $_", as => $_, sql => $note, on_event => '{run_failed,server_suspect,server_back}') for qw(ann bob reads);
$f->sql_as('bob', q{SELECT fleet.run_parent_package('his')});
calls_are(q{SELECT string_agg(who, ',' ORDER BY who) FROM told.call}, 'bob,reads', 'of a run its owner is told, and a reader');
$f->sql_as('ann', $hers);
calls_are(q{SELECT string_agg(who || ' ' || (params->>'package'), ',' ORDER BY who, n) FROM told.call}, 'ann hers,bob his,reads his,reads hers', 'and nobody else');
$f->sql('TRUNCATE told.call; GRANT USAGE ON FOREIGN SERVER d1 TO bob');
$f->job('far', 'SELECT 1');
$f->package('on d1', t => { job => 'far', server => 'd1' });
$f->run_is($f->start('on d1'), 'succeeded', 'a run there');
$f->node('d1')->stop;
$f->start('on d1');
calls_are(q{SELECT string_agg(concat_ws(' ', who, params->>'server', params->>'message' IS NULL), ',' ORDER BY who) FROM told.call WHERE params->>'kind' = 'server_suspect'}, 'bob d1 t,reads d1 f', 'of a server, those that may use it or see all; what it says, the latter only');
$f->node('d1')->start;
calls_are(q{SELECT string_agg(who, ',' ORDER BY who) FROM told.call WHERE params->>'kind' = 'server_back'}, 'bob,reads', 'that it is back, too');
$f->fails(q{SELECT fleet.alter_hook('of bob', enabled => false)}, '42704', 'another role does not see a hook', as => 'ann');
$f->fails(q{SELECT fleet.alter_hook('of bob', enabled => false)}, '42501', 'a reader does not change it', as => 'reads');
$f->fails(q{SELECT fleet.add_hook('x', sql => 'SELECT 1', package => 'his')}, $_->[1], "a hook for a package by role $_->[0], which may not use it", as => $_->[0]) for [ 'ann', '42501' ];
is($f->sql_as('reads', q{SELECT fleet.add_hook('x', sql => 'SELECT 1', package => 'his')}), '', 'who sees it may');
is($f->sql_as('ann', 'SELECT string_agg(hook, \',\') FROM fleet.hooks'), 'of ann', 'a role sees its own');

# ---- off and on; too old -------------------------------------------------------------------------

$f->sql(q{TRUNCATE told.call; SELECT fleet.alter_hook('of bob', enabled => false)});
$f->sql_as('bob', q{SELECT fleet.run_parent_package('his')});
calls_are(q{SELECT count(*) FROM told.call WHERE who = 'reads'}, '1', 'while a hook is disabled, others are called');
$f->sql(q{SELECT fleet.alter_hook('of bob', enabled => true)});
$f->sql_as('bob', q{SELECT fleet.run_parent_package('his')});
calls_are(q{SELECT string_agg(who, ',' ORDER BY who) FROM told.call}, 'bob,reads,reads', 'what happened meanwhile is not made up for');
$f->sql('ALTER ROLE bob NOLOGIN');
$f->sql(q{SET ROLE bob; SELECT fleet.run_parent_package('his')});
calls_are(q{SELECT failures > 0 AND message IS NOT NULL FROM fleet.hooks WHERE hook = 'of bob'}, 't', 'an owner who may not log in is told to have no calls');
is($f->sql(q{SELECT count(*) FROM fleet.event WHERE kind = 'hook_failed' AND message LIKE 'hook "of bob" cannot be called: %'}), '1', '… by an event');
$f->sql(q{UPDATE fleet_catalog.event SET raised_at = raised_at - interval '2 days' WHERE event_id = (SELECT max(event_id) FROM fleet_catalog.event WHERE kind = 'run_failed')});
$f->sql(q{ALTER ROLE bob LOGIN; TRUNCATE told.call; SELECT fleet.alter_hook('of bob', retries => 5)});
$f->sql_as('bob', q{SELECT fleet.run_parent_package('his')});
calls_are(q{SELECT count(*) FROM told.call WHERE who = 'bob'}, '1', 'then it is called again, and not for what is a day old');
$f->sql("SELECT fleet.drop_hook(hook), 1 FROM fleet.hooks; TRUNCATE told.call");

# ---- hostile ones --------------------------------------------------------------------------------

$f->sql_as('eve', q{SELECT fleet.create_package('evil'); SELECT fleet.add_task('evil', 't', sql => 'SELECT 1 / 0');
    CREATE FUNCTION told.stays() RETURNS void LANGUAGE plpgsql AS $$BEGIN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$});
add("hangs $_", as => 'eve', sql => 'SELECT pg_sleep(1000)', on_event => '{run_failed}', retries => 0) for 1 .. 5;
add('hangs', as => 'eve', sql => 'SELECT pg_sleep(1000)', on_event => '{run_failed}', timeout => '100ms', retries => 1, retry_wait => '10ms');
add('hers', as => 'ann', sql => $note, on_event => '{run_failed}');
$f->sql_as('eve', q{SELECT fleet.run_parent_package('evil')}) for 1 .. 3;
calls_are(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'eve' AND backend_type = 'pg_fleet runner' AND query LIKE '%pg_sleep%' AND state = 'active'}, '1', 'of many that hang, one at a time has a runner');
$f->sql_as('ann', $hers);
calls_are(q{SELECT count(*) FROM told.call}, '1', 'hooks of others are called');
$f->run_is($f->start('better'), 'succeeded', 'others run');
$f->sql_as('eve', "SELECT fleet.drop_hook('hangs $_')") for 1 .. 5;
calls_are(q{SELECT string_agg(DISTINCT concat_ws(' ', state, attempts, sqlstate, message), ', ') FROM fleet.hook_call WHERE hook = 'hangs'}, 'failed 2 57014 canceled at its timeout: canceling statement due to user request', 'one that hangs is canceled at its timeout');
$f->sql_as('eve', q{SELECT fleet.alter_hook('hangs', sql => 'SELECT told.stays()', retries => 0)});
$f->point('parent', 'hook_stuck', 'signal');
$f->sql_as('eve', q{SELECT fleet.run_parent_package('evil')});
calls_are(q{SELECT message FROM fleet.hooks WHERE hook = 'hangs'}, 'canceled at its timeout: it did not stop', 'one that does not stop');
calls_are(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'eve' AND backend_type = 'pg_fleet runner' AND state = 'active'}, '0', '… loses its runner');
$f->sql_as('eve', q{SELECT fleet.alter_hook('hangs', timeout => '1h')});
$f->sql_as('eve', q{SELECT fleet.run_parent_package('evil')});
calls_are(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'eve' AND query LIKE '%stays%' AND backend_type = 'pg_fleet runner' AND state = 'active'}, '1', 'a call');
$f->sql_as('eve', q{SELECT fleet.drop_hook('hangs')});
calls_are(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'eve' AND backend_type = 'pg_fleet runner' AND state = 'active'}, '0', '… ends when its hook is dropped');

# thousands at once
add('many', as => 'eve', sql => $note, on_event => '{task_failed}');
$f->sql_as('eve', q{SELECT fleet.create_package('flood'); SELECT fleet.add_task('flood', 't', sql => 'SELECT 1 / 0', for_each => 'SELECT i FROM generate_series(1, 2000) AS i'); TRUNCATE told.call; SELECT fleet.run_parent_package('flood')});
calls_are(q{SELECT count(*) > 0 FROM told.call WHERE who = 'eve'}, 't', 'thousands of events at once call a hook');
$f->sql_as('ann', $hers);
calls_are(q{SELECT count(*) FROM told.call WHERE who = 'ann'}, '1', 'that of another role does not wait for them');
calls_are(q{SELECT count(*) FROM told.call WHERE who = 'eve'}, '2001', 'each of them calls it');
is($f->sql(q{SELECT count(DISTINCT params->>'event_id'), bool_and((params->>'event_id')::bigint > before) FROM (SELECT params, lag((params->>'event_id')::bigint, 1, 0::bigint) OVER (ORDER BY n) AS before FROM told.call WHERE who = 'eve') AS c}), '2001|t', '… once, in their order');

# its owner is gone
$f->sql(q{SELECT fleet.drop_hook('many'); CREATE ROLE gone LOGIN});
add('orphan', as => 'gone', sql => $note, on_event => '{agent_started,run_failed}');
$f->sql('DROP ROLE gone');
$f->run_is($f->start('bad'), 'failed', 'a run');
$f->sql_as('ann', $hers);
calls_are(q{SELECT count(*) FROM told.call WHERE who = 'ann'}, '2', 'a hook whose owner was dropped is nobody\'s: others are called');
calls_are(q{SELECT failures > 0 FROM fleet.hooks WHERE hook = 'orphan'}, 't', '… and it is not');
agent_ends();
$f->run_is($f->start('better'), 'succeeded', 'another agent has no trouble with it');
$f->fails("SELECT fleet.add_hook('h' || i, sql => 'SELECT 1') FROM generate_series(1, 101) AS i", '54000', 'a role has so many hooks at most', as => 'eve', like => qr/too many hooks/, help => 1);
$f->sql("SELECT fleet.drop_hook(hook) FROM fleet.hooks");

# ---- a copy of the parent ----------------------------------------------------------------------------

add('of both', sql => "SELECT pg_advisory_lock(1), pg_advisory_unlock(1); $note", on_event => '{run_failed}');
$f->sql('TRUNCATE told.call');
$lock->sql('SELECT pg_advisory_lock(1)');
$f->run_is($f->start('bad'), 'failed', 'a run');
calls_are($waits, '1', 'its hook works');
$f->sql(q{UPDATE fleet_catalog.identity SET paused_reason = 'a copy'});
agent_ends();
calls_are(q{SELECT paused_reason FROM fleet.agent_status() WHERE running}, 'a copy', 'the next agent is that of a copy');
$lock->sql('SELECT pg_advisory_unlock(1)');
$f->sql(q{SELECT fleet.confirm_identity('new')});
$run = $f->start('bad');
$f->run_is($run, 'failed', 'a run of the copy, which is a parent of its own now');
calls_are(q{SELECT string_agg(params->>'run_id', ',') FROM told.call}, $run, 'calls the hook, and nothing that happened in the original does');
$f->sql("SELECT fleet.drop_hook('of both')");

# ---- mail, as the documents show it: COPY TO PROGRAM -----------------------------------------------

my $mail = $f->parent->data_dir . '/mail';
add('mail', on_event => '{run_failed}', sql => qq{COPY (SELECT unnest(ARRAY[format('Subject: [fleet] %s %s', fleet.param('kind'), fleet.param('package')), '', fleet.param('message'),
    format('run %s, server %s, at %s', fleet.param('run_id'), fleet.param('server'), fleet.param('raised_at'))])) TO PROGRAM 'cat >> $mail'});
$run = $f->start('bad');
$f->run_is($run, 'failed', 'a run');
calls_are(q{SELECT state FROM fleet.hook_call WHERE hook = 'mail'}, 'succeeded', 'a hook that speaks with a program');
like(PostgreSQL::Test::Utils::slurp_file($mail), qr/\ASubject: \[fleet\] run_failed bad\n\ntask "t" failed: division by zero\nrun $run, server , at /, '… has told it');
$f->sql("SELECT fleet.drop_hook('mail')");

$f->done;
