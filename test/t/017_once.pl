# Mode agent, exactly one start: intent before effect, one job run a token, a token of its own for
# every attempt, a cancel that meets its start on the way, budgets of retries over a crash, a fenced
# parent.  The parent, its agent or the connection end at named points or at named messages; what
# really ran is what the witness saw.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, proxy => 1, preload => 1, delays => 0);
my $witness = 'host=127.0.0.1 port=' . $f->node('witness')->port . ' dbname=witness user=witness password=witness';
for my $server (qw(parent a1))
{
    $f->sql_on($server, <<"SQL");
-- Fails with 22012 until it was started that many times, by what the witness saw.
CREATE FUNCTION etl.fails_until(times integer) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    RAISE NOTICE 'a try';
    IF (SELECT n FROM public.dblink('$witness', format('SELECT count(*) FROM event WHERE what = ''start'' AND key = %L', etl.key()))
            AS t(n bigint)) < times THEN
        RAISE division_by_zero USING MESSAGE = 'not yet';
    END IF;
    RETURN etl.key();
END \$\$;
GRANT EXECUTE ON FUNCTION etl.fails_until(integer) TO etl;
SQL
}
# Jobs of the server's own: so no connection is there before the first start.
$f->sql_as('etl', <<'SQL', on => 'a1');
SELECT fleet.create_job('work');
SELECT fleet.add_step('work', 's', 'SELECT etl.work()');
SELECT fleet.create_job('hold');
SELECT fleet.add_step('hold', 's', 'SELECT etl.work_until_released()');
SELECT fleet.create_job('twice');
SELECT fleet.add_step('twice', 's', 'SELECT etl.fails_until(2)');
SELECT fleet.create_job('stubborn');
SELECT fleet.add_step('stubborn', 's', 'SELECT etl.fails_until(99)', retries => 2, retry_wait => '1ms', retry_sqlstates => '{22012}');
SQL
$f->package($_, -params => '{"key": null}', t => { job => $_, server => 'a1' }) for qw(work hold stubborn);
$f->package('twice', -params => '{"key": null}',
    t => { job => 'twice', server => 'a1', retries => 1, retry_wait => '1ms', retry_sqlstates => '{22012}' });

sub key { my ($key) = @_; return qq({"key": "$key"}); }
# As the agent makes it: the view shows it only once the server has it.
sub token
{
    my ($run) = @_;
    return $f->sql("SELECT fleet_catalog.token(i.secret, r.run_uuid, t.task, t.item, t.attempt) FROM fleet.task_run AS t JOIN fleet.run AS r USING (run_id), fleet_catalog.identity AS i"
          . " WHERE run_id = $run AND t.task = 't'");
}
sub shown { my ($run) = @_; return $f->sql("SELECT token FROM fleet.task_run WHERE run_id = $run AND task = 't'"); }

# What ended before is told and acknowledged: the next answer on the link is that to a start.
sub settled { return $f->wait_for('a1', 'SELECT count(*) FROM fleet_catalog.job_run WHERE state >= 11 AND acknowledged_at IS NULL', '0', 'nothing is to be told'); }

# What the server has of this token: how many job runs, and in which state.
sub there
{
    my ($token) = @_;
    return $f->sql_on('a1', "SELECT count(*) || coalesce(' ' || min(state), '') FROM fleet.job_run WHERE token = '$token'");
}

sub end_agent
{
    my ($node) = @_;
    my $pid = $f->agent_pid($node);
    $f->sql_on($node, "SELECT pg_terminate_backend($pid, 10000)");
    return $f->wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet agent' AND datname = 'dw' AND pid <> $pid",
        '1', "$node: the next agent is there");
}

# ---- canceled before it was sent ---------------------------------------------------------------

# The first connection never gets through: the start waits in the link.
$f->proxy->ctl('hole', 'a1');
my $run = $f->start('work', key('unsent'));
$f->wait_for('parent', "SELECT state || ' ' || server FROM fleet.task_run WHERE run_id = $run", 'starting a1', 'unsent: starting, while the link connects');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'unsent: canceled, with the server out of reach');
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'canceled', 'unsent: and its task');
$f->proxy->ctl('allow', 'a1');
my $unsent = token($run);

# ---- the usual case, and each token once -------------------------------------------------------

$run = $f->start('work', key('usual'));
$f->run_is($run, 'succeeded', 'usual: succeeded');
is($f->witnessed('usual', 'start'), 1, 'usual: started once');
is(there(token($run)), '1 succeeded', 'usual: one job run with its token');
is(there($unsent), '0', 'unsent: the server never heard of it');
is($f->witnessed('unsent', 'start'), 0, 'unsent: and ran nothing');

# ---- intent before effect: the parent crashes between the row and its send ---------------------

$f->point('parent', 'remote_before_start', 'wait');
$run = $f->start('work', key('intent'));
$f->point_waits('parent', 'remote_before_start', 'intent: the start is stored and not sent');
is($f->sql("SELECT state || ' ' || server || ' ' || attempt FROM fleet.task_run WHERE run_id = $run"), 'starting a1 1',
    'intent: the row shows state, server and attempt');
my $token = token($run);
like($token, qr/^[0-9a-f-]{36}$/, 'intent: and a token');
is(there($token), '0', 'intent: which the server does not know');
is(shown($run), '', 'intent: and which is shown to nobody, who could take it there first');
is($f->witnessed('intent', 'start'), 0, 'intent: nothing has run');
$f->parent->stop('immediate');
$f->point_release('parent', 'remote_before_start');
$f->parent->start;
$f->run_is($run, 'succeeded', 'intent: succeeded after the crash');
is($f->witnessed('intent', 'start'), 1, 'intent: exactly one start');
is(token($run), $token, 'intent: the same token');
is(there($token), '1 succeeded', 'intent: one job run, with that token');
is(shown($run), $token, 'intent: which is shown now');
is($f->sql("SELECT attempt FROM fleet.task_run WHERE run_id = $run"), '1', 'intent: it was the first attempt');

# the agent alone ends there
$f->point('parent', 'remote_before_start', 'exit');
$run = $f->start('work', key('intent_agent'));
$f->point_fired('parent', 'remote_before_start', 'intent, agent: it ended before the send');
$f->run_is($run, 'succeeded', 'intent, agent: succeeded under the next one');
is($f->witnessed('intent_agent', 'start'), 1, 'intent, agent: exactly one start');
is(there(token($run)), '1 succeeded', 'intent, agent: one job run');

# ---- sent, and the answer does not come --------------------------------------------------------

# The server has started it, the answer is lost with the connection.
settled();
$f->proxy->ctl(qw(on a1 s2c before ^D));
$run = $f->start('hold', key('unanswered'));
ok($f->proxy->fired('a1'), 'unanswered: the connection is cut before the answer');
$f->wait_started('unanswered');
$f->proxy->ctl('allow', 'a1');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'unanswered: found again, it runs');
$f->release('unanswered');
$f->run_is($run, 'succeeded', 'unanswered: succeeded');
is($f->witnessed('unanswered', 'start'), 1, 'unanswered: started once');
is(there(token($run)), '1 succeeded', 'unanswered: one job run');

# The same, and the parent crashes before it hears.
settled();
$f->proxy->ctl(qw(on a1 s2c before ^D hole));
$run = $f->start('hold', key('unheard'));
ok($f->proxy->fired('a1'), 'unheard: the answer is held back');
$f->wait_started('unheard');
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'starting', 'unheard: the parent does not know that it runs');
$f->parent->stop('immediate');
$f->proxy->ctl('kill', 'a1');
$f->proxy->ctl('allow', 'a1');
$f->parent->start;
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'unheard: the next agent adopts it');
$f->release('unheard');
$f->run_is($run, 'succeeded', 'unheard: succeeded');
is($f->witnessed('unheard', 'start'), 1, 'unheard: started once');

# The start itself is lost.
$f->proxy->ctl(qw(on a1 c2s before ^B.*agent_start));
$run = $f->start('work', key('lost_start'));
ok($f->proxy->fired('a1'), 'lost start: the connection is cut before it arrives');
$f->proxy->ctl('allow', 'a1');
$f->run_is($run, 'succeeded', 'lost start: sent again');
is($f->witnessed('lost_start', 'start'), 1, 'lost start: started once');
is(there(token($run)), '1 succeeded', 'lost start: one job run');
is($f->sql("SELECT attempt FROM fleet.task_run WHERE run_id = $run"), '1', 'lost start: within one attempt');

# ---- a cancel meets the start on its way -------------------------------------------------------

# Held back before the server: the connection is lost with it, and the start is gone.  So it is when the agent has gone
# meanwhile, or the whole parent: what comes after them knows from the rows that the task is being canceled, and that nobody has
# said that it began.
for my $gone ('', 'agent', 'parent')
{
    my $name = 'on the way' . ($gone && ", the $gone ends");
    (my $key = $name) =~ tr/, /_/ds;
    $f->proxy->ctl(qw(on a1 c2s before ^B.*agent_start hole));
    $run = $f->start('work', key($key));
    ok($f->proxy->fired('a1'), "$name: the start is held before the server");
    $f->sql("SELECT fleet.cancel_run($run)");
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'canceling', "$name: not called canceled while it may still arrive");
    if ($gone eq 'agent')
    {
        my $pid = $f->agent_pid;
        $f->sql("SELECT pg_terminate_backend($pid)");
        $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', "$name: it is gone");
    }
    $f->parent->stop('immediate') if $gone eq 'parent';
    $f->proxy->ctl('kill', 'a1');
    $f->proxy->ctl('allow', 'a1');
    $f->parent->start if $gone eq 'parent';
    $f->run_is($run, 'canceled', "$name: canceled");
    $token = token($run);
    is(there($token), '1 canceled', "$name: the server keeps the token as canceled");
    # … and should it come after all, from a connection of this agent that the server still hears:
    is($f->sql_as('etl', <<"SQL", on => 'a1'), '1|t|', "$name: a start that arrives later starts nothing");
SELECT ord, known, sqlstate FROM fleet_link.agent_start((SELECT parent_uuid FROM fleet.job_run WHERE token = '$token'),
    9223372036854775807, ARRAY['$token']::uuid[], ARRAY['work'], ARRAY['{"key": "$key"}']::jsonb[])
SQL
    is(there($token), '1 canceled', "$name: still canceled");
    is($f->witnessed($key, 'start'), 0, "$name: nothing ran");
}

# Held back before the parent: the server runs it already.
settled();
$f->proxy->ctl(qw(on a1 s2c before ^D hole));
$run = $f->start('hold', key('on_the_way_back'));
ok($f->proxy->fired('a1'), 'on the way back: the answer is held');
$f->wait_started('on_the_way_back');
$f->sql("SELECT fleet.cancel_run($run)");
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'canceling', 'on the way back: canceling');
$f->proxy->ctl('allow', 'a1');
$f->run_is($run, 'canceled', 'on the way back: canceled');
is(there(token($run)), '1 canceled', 'on the way back: there too');
is($f->sql_on('a1', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%work_until_released%' AND state = 'active' AND pid <> pg_backend_pid()}),
    '0', 'on the way back: nothing of it runs any more');
is($f->witnessed('on_the_way_back', 'end'), 0, 'on the way back: it did not come to its end');
is($f->effects('a1', 'on_the_way_back'), 0, 'on the way back: no effect');

# The agent ends before it sends the cancel.
$f->point('parent', 'remote_before_cancel', 'exit');
$run = $f->start('hold', key('cancel_unsent'));
$f->wait_started('cancel_unsent');
$f->sql("SELECT fleet.cancel_run($run)");
$f->point_fired('parent', 'remote_before_cancel', 'cancel unsent: the agent ended before it was sent');
$f->run_is($run, 'canceled', 'cancel unsent: the next one sends it');
is(there(token($run)), '1 canceled', 'cancel unsent: stopped on the server');
is($f->witnessed('cancel_unsent', 'end'), 0, 'cancel unsent: it did not come to its end');

# ---- a retried task ----------------------------------------------------------------------------

$run = $f->start('twice', key('twice'));
$f->run_is($run, 'succeeded', 'retried: the second attempt succeeds');
is($f->witnessed('twice', 'start'), 2, 'retried: two starts');
is($f->sql("SELECT attempt || ' ' || state || ' ' || output FROM fleet.task_run WHERE run_id = $run"), '2 succeeded twice', 'retried: the row shows attempt 2');
is($f->sql_on('a1', q{SELECT string_agg(state, ' ' ORDER BY job_run_id) || ' ' || count(DISTINCT token) FROM fleet.job_run WHERE params ->> 'key' = 'twice'}),
    'failed succeeded 2', 'retried: two job runs, each with a token of its own');
is($f->sql_on('a1', q{SELECT token FROM fleet.job_run WHERE params ->> 'key' = 'twice' AND state = 'succeeded'}), token($run),
    'retried: the row shows the token of the second');
is($f->sql("SELECT string_agg(concat_ws(' ', task_attempt, attempt, state, sqlstate), ', ' ORDER BY task_attempt) FROM fleet.job_log WHERE run_id = $run"),
    '1 1 failed 22012, 2 1 succeeded', 'retried: both attempts are in the log of the job');
is($f->sql("SELECT string_agg(seq || ' ' || level || ' ' || message, ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $run"),
    '1 INFO step "s" started, 2 NOTICE a try, 3 ERROR not yet, 4 INFO step "s" started, 5 NOTICE a try, 6 INFO step "s" succeeded',
    'retried: the log goes on without a gap');

# the parent crashes before it sends the second attempt
$f->point('parent', 'remote_before_start', 'wait 2');
$run = $f->start('twice', key('twice_crash'));
$f->point_waits('parent', 'remote_before_start', 'retried, crash: the second attempt is stored and not sent');
is($f->sql("SELECT state || ' ' || attempt FROM fleet.task_run WHERE run_id = $run"), 'starting 2', 'retried, crash: the row shows it');
$token = token($run);
$f->parent->stop('immediate');
$f->point_release('parent', 'remote_before_start');
$f->parent->start;
$f->run_is($run, 'succeeded', 'retried, crash: succeeded');
is($f->witnessed('twice_crash', 'start'), 2, 'retried, crash: two starts in all');
is($f->sql("SELECT attempt FROM fleet.task_run WHERE run_id = $run"), '2', 'retried, crash: it was attempt 2');
is(there($token), '1 succeeded', 'retried, crash: with the token that was stored');

# ---- the budget of retries over a crash --------------------------------------------------------

# Of a task here: the agent ends when the second attempt is stored and not sent.
$f->package('budget', -params => '{"key": null}',
    t => { sql => 'SELECT etl.fails_until(99)', retries => 2, retry_wait => '1ms', retry_sqlstates => '{22012}' });
$f->point('parent', 'step_before_send', 'exit 2');
$run = $f->start('budget', key('budget_task'));
$f->point_fired('parent', 'step_before_send', 'budget of a task: the agent ended before it sent the second attempt');
$f->run_is($run, 'failed', 'budget of a task: failed in the end');
is($f->witnessed('budget_task', 'start'), 3, 'budget of a task: three attempts over the crash');
is($f->sql("SELECT attempt || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"), '3 22012 not yet', 'budget of a task: its row');

# Of a step on the server: the same there.
$f->point('a1', 'step_before_send', 'exit 2');
$run = $f->start('stubborn', key('budget_step'));
$f->point_fired('a1', 'step_before_send', 'budget of a step: the server\'s agent ended before it sent the second attempt');
$f->run_is($run, 'failed', 'budget of a step: failed in the end');
is($f->witnessed('budget_step', 'start'), 3, 'budget of a step: three attempts over the crash');
is($f->sql("SELECT string_agg(attempt || ' ' || state || ' ' || sqlstate, ', ' ORDER BY attempt) FROM fleet.job_log WHERE run_id = $run"),
    '1 failed 22012, 2 failed 22012, 3 failed 22012', 'budget of a step: three rows at the parent');
is($f->sql("SELECT attempt || ' ' || state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"), '1 failed 22012 not yet',
    'budget of a step: within one attempt of the task');

# While it waits for its next attempt.
$f->package('patient', -params => '{"key": null}',
    t => { sql => 'SELECT etl.fails_until(99)', retries => 1, retry_wait => '5s', retry_sqlstates => '{22012}' });
$run = $f->start('patient', key('patient'));
$f->wait_for('parent', "SELECT state || ' ' || attempt FROM fleet.task_run WHERE run_id = $run", 'retrying 1', 'budget, waiting: the first attempt has failed');
end_agent('parent');
$f->run_is($run, 'failed', 'budget, waiting: failed in the end');
is($f->witnessed('patient', 'start'), 2, 'budget, waiting: two attempts over the crash');

# ---- a token is nobody else's ------------------------------------------------------------------

# mallory may log in at the server, and knows all of a run that is to come but the parent's secret; etl, as whom the
# parent comes, sees what is mallory's.
my $protocol = $f->sql_on('a1', 'SELECT fleet_catalog.protocol()');
my $uuid = $f->sql('SELECT parent_uuid FROM fleet.agent_status()');
$f->sql_on('a1', 'CREATE ROLE mallory LOGIN; GRANT fleet_reader TO etl');
$f->sql_as('mallory', "SELECT fleet.create_job('trap'); SELECT fleet.add_step('trap', 's', 'SELECT 1'); SELECT count(*) FROM fleet_link.agent_hello($protocol, '$uuid', 7, 'a parent')", on => 'a1');
sub take { my ($t) = @_; return $f->sql_as('mallory', "SELECT coalesce(sqlstate, 'started') FROM fleet_link.agent_start('$uuid', 7, '{$t}', '{trap}', NULL)", on => 'a1'); }
sub forestall { my ($t) = @_; return $f->sql_as('mallory', "SELECT fleet_link.agent_cancel('$uuid', 7, '{$t}')", on => 'a1'); }
sub keyed { my ($key) = @_; return $f->sql("SELECT fleet.run_parent_package('work', params => '{\"key\": \"$key\"}', run_key => '$key')"); }
my $hash = sub { my ($text) = @_; return $f->sql("SELECT encode(substr(sha256('$text'), 1, 16), 'hex')::uuid"); };

my $guessed = $hash->($hash->(join("/", $uuid, "work", "guessed")) . '/t/0/1');
is(take($guessed), 'started', 'guessed: a token computed from what is known of a run');
$run = keyed('guessed');
is($f->sql("SELECT run_uuid FROM fleet.run WHERE run_id = $run"), $hash->(join("/", $uuid, "work", "guessed")), 'guessed: the run is the one that was meant');
$f->run_is($run, 'succeeded', 'guessed: it is another one, and the run succeeds');
is($f->witnessed('guessed', 'start'), 1, 'guessed: once, by its own job');
isnt(token($run), $guessed, 'guessed: with its own token');

# Should it be known by whatever way: nothing of mallory's is the parent's.
for my $what ([ taken => \&take, 'started' ], [ forestalled => \&forestall, '' ])
{
    my ($key, $do, $says) = @$what;
    my $known = $f->sql("SELECT fleet_catalog.token(secret, '" . $hash->(join("/", $uuid, "work", $key)) . "', 't', 0, 1) FROM fleet_catalog.identity");
    is($do->($known), $says, "$key: mallory has the token first");
    $run = keyed($key);
    $f->run_is($run, 'failed', "$key: the run fails");
    is($f->sql("SELECT concat_ws('|', state, sqlstate, message, token) FROM fleet.task_run WHERE run_id = $run"), "failed|42710|the token belongs to another role or job|$known", "$key: with the reason");
    is($f->witnessed($key, 'start'), 0, "$key: nothing has run");
    is($f->sql_on('a1', "SELECT count(*) FROM fleet.job_run WHERE token = '$known' AND acknowledged_at IS NOT NULL"), '0', "$key: what mallory has is left alone");
}
$f->sql_on('a1', 'REVOKE fleet_reader FROM etl');

# ---- fencing -----------------------------------------------------------------------------------

# The link of an agent whose epoch is over: what it asks for fails with the reason, nothing runs.
$f->sql_on('a1', q{UPDATE fleet_catalog.parent SET epoch = epoch + 1000 WHERE name <> '' AND parent_uuid IN (SELECT parent_uuid FROM fleet.job_run WHERE params ->> 'key' = 'usual')});
$run = $f->start('work', key('fenced'));
$f->run_is($run, 'failed', 'a fenced parent: its start fails');
is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE run_id = $run"), 'FE001', 'a fenced parent: with the reason');
is(there(token($run)), '0', 'a fenced parent: nothing is there');
is($f->witnessed('fenced', 'start'), 0, 'a fenced parent: nothing ran');
$f->done(crashes => 1);
