# Where and when work is placed: states of servers, slots, throttle, priority, balance, and what happens
# to it when a server is lost.  The witness says where each piece really ran, and how many at once.
#
# w1, w2 and w3 are servers of the fleet on one cluster, each with a login role of its own, so that
# the witness tells them apart.
use strict;
use warnings;
use FleetTest 'quote_literal';
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 10);
my @direct = qw(w1 w2 w3);
$f->sql_on('d1', join ';', map { "CREATE ROLE $_ LOGIN PASSWORD '$FleetTest::PASSWORD'; GRANT etl TO $_; GRANT ALL ON SCHEMA etl TO $_; GRANT ALL ON etl.effect TO $_" } @direct);
$f->sql(join ';', map { "SELECT fleet.add_server('$_', " . quote_literal($f->conninfo('d1')) . ", username => '$_', password => '$FleetTest::PASSWORD', mode => 'direct', slots => 2, groups => '{w}')" } @direct);
$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('work', 'SELECT etl.work()');

sub each_of { my ($prefix, $n, $key) = @_; return "SELECT jsonb_build_object('i', i, 'key', " . ($key || "'$prefix' || i") . ") FROM generate_series(1, $n) AS i"; }
sub states { my ($run, $task) = @_; return $f->sql("SELECT string_agg(n || ' ' || state, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND (item > 0 OR NOT EXISTS (SELECT FROM fleet.task_run AS i WHERE i.run_id = $run AND i.task = '$task' AND i.item > 0)) GROUP BY 1) AS x"); }
sub wait_states { my ($run, $task, $expected, $name) = @_; return $f->wait_for('parent', "SELECT string_agg(n || ' ' || state, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND (item > 0 OR NOT EXISTS (SELECT FROM fleet.task_run AS i WHERE i.run_id = $run AND i.task = '$task' AND i.item > 0)) GROUP BY 1) AS x", $expected, $name); }

# who ran what has keys like this: "w1 2, w2 3"
sub who { my ($like) = @_; return $f->sql_on('witness', "SELECT coalesce(string_agg(usr || ' ' || n, ', ' ORDER BY usr), '') FROM (SELECT usr, count(*) AS n FROM event WHERE what = 'start' AND key LIKE '$like' GROUP BY 1) AS x"); }
# the most that ran at once: starts and ends in the order in which they were told
sub most { my ($like) = @_; return $f->sql_on('witness', "SELECT max(n) FROM (SELECT sum(CASE what WHEN 'start' THEN 1 ELSE -1 END) OVER (ORDER BY id) AS n FROM event WHERE key LIKE '$like' AND what IN ('start', 'end')) AS x"); }
sub order { my ($like) = @_; return $f->sql_on('witness', "SELECT string_agg(key, ' ' ORDER BY id) FROM event WHERE what = 'start' AND key LIKE '$like'"); }
sub wait_witnessed { my ($like, $n, $name) = @_; return $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key LIKE '$like'", $n, $name); }
sub set { my ($server, $state) = @_; $f->sql("SELECT fleet.set_server_state('$server', '$state')"); return; }

# Something that comes later and ends: whatever the agent does at once, it has done by then.
$f->package('later', t => { sql => 'SELECT 1' });
sub later { my ($name) = @_; return $f->run_is($f->start('later'), 'succeeded', $name); }

# ---- states of servers -------------------------------------------------------------------------

$f->package('pinned', map { ("on_$_" => { job => 'hold', server => $_, params => "{\"key\": \"pinned_$_\"}" }) } @direct, 'a1');
$f->package('pinned_too', map { ("on_$_" => { job => 'work', server => $_, params => "{\"key\": \"too_$_\"}" }) } @direct, 'a1');
$f->package('group', t => { job => 'hold', on_group => 'w', for_each => each_of('group', 5, q{'group'}) });
my $pinned = $f->start('pinned');
wait_witnessed('pinned%', '4', 'one job runs on each server');
set('w2', 'draining');
set('a1', 'draining');
set('w3', 'offline');
my $group = $f->start('group');
wait_states($group, 't', '4 queued, 1 running', 'of five items one runs: on the free slot of the server that is online');
my $too = $f->start('pinned_too');
later('meanwhile others run');
wait_witnessed('group', '1', 'the one item has begun');
is(who('group') . '; ' . who('too%'), 'w1 1; ', 'draining and offline servers get nothing new, and a full one neither');
is(states($group, 't'), '4 queued, 1 running', 'and the rest waits');
is($f->sql("SELECT string_agg(task || '=' || state, ' ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $too"), 'on_w1=queued on_w2=queued on_w3=queued on_a1=queued', 'also what is meant for them');
is($f->sql(q{SELECT string_agg(server || ' ' || state || ' ' || busy, ', ' ORDER BY server) FROM fleet.server_status WHERE server <> 'd1'}), 'a1 draining 1, w1 online 2, w2 draining 1, w3 offline 1', 'server_status says so');
$f->release("pinned_$_") for @direct, 'a1';
wait_states($pinned, "on_$_", '1 succeeded', "what runs on $_ ends as it should") for 'w1', 'w2', 'a1';
wait_states($too, 'on_w1', '1 succeeded', 'the one that is online goes on');
later('meanwhile others run, too');
is(who('too%'), 'w1 1', 'the others still get nothing');
set('w2', 'online');
wait_states($too, 'on_w2', '1 succeeded', 'online again, it gets what waited for it');
set('a1', 'online');
wait_states($too, 'on_a1', '1 succeeded', 'mode agent: too');
wait_witnessed('group', '4', 'and the group has four slots');
is(who('group'), 'w1 2, w2 2', 'two on each');
set('w3', 'online');
$f->release('group');
$f->run_is($_->[0], 'succeeded', "$_->[1] ends") for [ $pinned, 'what ran while its server went' ], [ $too, 'what waited' ], [ $group, 'the group' ];
is($f->sql_on('witness', q{SELECT count(*) FROM (SELECT key FROM event WHERE key <> 'group' AND what = 'start' GROUP BY key HAVING count(*) > 1) AS x}), '0', 'nothing was started twice');
is($f->witnessed('group', 'start') . $f->effects('d1', 'group'), '55', 'nor any item');

# ---- slots and throttle ------------------------------------------------------------------------

$f->package('slots', t => { job => 'hold', server => 'w1', for_each => each_of('slots', 7, q{'slots'}) });
my $run = $f->start('slots');
wait_states($run, 't', '5 queued, 2 running', 'slots: as many as there are');
wait_witnessed('slots', '2', 'really');
$f->sql(q{SELECT fleet.alter_server('w1', slots => 4)});
wait_witnessed('slots', '4', 'slots: with more of them, more at once');
$f->sql(q{SELECT fleet.alter_server('w1', slots => 0)});
later('meanwhile others run, as well');
$f->release('slots');
wait_states($run, 't', '3 queued, 4 succeeded', 'slots: with none, what runs goes on to its end, and nothing new begins');
$f->sql(q{SELECT fleet.alter_server('w1', slots => 2)});
$f->run_is($run, 'succeeded', 'slots: then the rest');
is(most('slots'), '4', 'slots: never more at once than there were');
is($f->witnessed('slots', 'start'), 7, 'slots: each once');

my %place = (here => { sql => 'SELECT etl.work_until_released()' }, a1 => { job => 'hold', server => 'a1' }, d1 => { job => 'hold', server => 'd1' });
for my $place (sort keys %place)
{
    $f->package("throttle_$place", t => { %{ $place{$place} }, throttle => 3, for_each => each_of('x', 8, "'throttle_$place'") });
    $run = $f->start("throttle_$place");
    wait_states($run, 't', '5 queued, 3 running', "throttle, $place: three of eight");
    wait_witnessed("throttle_$place", '3', 'really');
    $f->release("throttle_$place");
    $f->run_is($run, 'succeeded', "throttle, $place: then the rest");
    is(most("throttle_$place"), '3', "throttle, $place: three at once, and never more");
    is($f->witnessed("throttle_$place", 'start'), 8, "throttle, $place: each item once");
}

# ---- who goes first ----------------------------------------------------------------------------

$f->sql(q{SELECT fleet.alter_server('w1', slots => 1)});
$f->package("first_$_", -params => "{\"key\": \"first_$_\"}", t => { job => $_ eq 'now' ? 'hold' : 'work', server => 'w1' }) for qw(now low high higher);
$f->sql(q{SELECT fleet.alter_package('first_low', priority => -5), fleet.alter_package('first_high', priority => 5)});
my @run = ($f->start('first_now'));
wait_witnessed('first_now', '1', 'priority: the only slot is taken');
push @run, split /\n/, $f->sql(q{SELECT fleet.run_parent_package('first_low'); SELECT fleet.run_parent_package('first_high'); SELECT fleet.run_parent_package('first_higher', priority => 50);
    SELECT fleet.run_parent_package('first_higher', priority => -50)});
$f->wait_for('parent', 'SELECT count(*) FROM fleet.run WHERE run_id IN (' . join(',', @run) . ") AND state = 'running'", '5', 'priority: four runs wait for it');
$f->release('first_now');
$f->run_is($_, 'succeeded', "priority: run $_ ends") for @run;
is(order('first%'), 'first_now first_higher first_high first_low first_higher', 'priority: the higher one first: as the request says, else the package');
is($f->sql('SELECT string_agg(priority::text, \' \' ORDER BY run_id) FROM fleet.run WHERE run_id IN (' . join(',', @run) . ')'), '0 -5 5 50 -50', 'priority: the rows say so');
$f->sql(q{SELECT fleet.alter_server('w1', slots => 2)});

# ---- where -------------------------------------------------------------------------------------

$f->package("balance_$_", t => { job => 'work', on_group => 'w', balance => $_, throttle => 1, for_each => each_of('x', 12, "'balance_$_'") }) for qw(round_robin weighted);
$f->sql(q{SELECT fleet.alter_server('w1', weight => 1), fleet.alter_server('w2', weight => 2), fleet.alter_server('w3', weight => 3)});
$f->run_is($f->start("balance_$_"), 'succeeded', "balance: $_") for qw(round_robin weighted);
is(who('balance\_round%'), 'w1 4, w2 4, w3 4', 'round_robin: to each the same');
is(who('balance\_weighted'), 'w1 2, w2 4, w3 6', 'weighted: to each by its weight');
is($f->sql_on('witness', q{SELECT bool_and(usr <> next) FROM (SELECT usr, lead(usr, 1, '') OVER (ORDER BY id) AS next FROM event WHERE key = 'balance_round_robin' AND what = 'start') AS x}), 't', 'round_robin: one after the other');
$f->sql(q{SELECT fleet.alter_server('w2', groups => '{other}'), fleet.alter_server('w3', groups => '{other,w}')});
$f->run_is($f->start('balance_round_robin'), 'succeeded', 'groups: a server has left');
is(who('balance\_round%'), 'w1 10, w2 4, w3 10', 'groups: the one that has left gets nothing');
is($f->sql(q{SELECT string_agg(server || ' ' || groups::text, ', ' ORDER BY server) FROM fleet.server WHERE server LIKE 'w%'}), 'w1 {w}, w2 {other}, w3 {other,w}', 'groups: as they were given');

# ---- a server that is lost ---------------------------------------------------------------------

# "lost" on a1 alone; "retried" in a group with w1; "elsewhere" has not begun when its server goes
$f->sql(q{SELECT fleet.alter_server('a1', groups => '{agents,g}'), fleet.alter_server('w1', groups => '{g}')});
set('w1', 'draining');
$f->package('lost', -params => '{"key": "lost"}', t => { job => 'hold', on_group => 'g', retries => 3, retry_wait => '0s' }, help => { sql => q{SELECT etl.work()}, params => '{"key": "lost_help"}', after_failure_of => '{t}' }, after => { sql => 'SELECT 1', after => '{t}' });
$f->package('lost_too', -params => '{"key": "lost_too"}', t => { job => 'hold', server => 'a1' });
$f->package('retried', -params => '{"key": "retried"}', t => { job => 'hold', on_group => 'g', on_lost => 'retry', retries => 1, retry_wait => '0s' });
$f->package('no_retries', -params => '{"key": "no_retries"}', t => { job => 'hold', on_group => 'g', on_lost => 'retry' });
$f->package('elsewhere', -params => '{"key": "elsewhere"}', t => { job => 'work', on_group => 'g' });
my %run = map { ($_ => $f->start($_)) } qw(lost lost_too retried no_retries);
for my $name (sort keys %run)
{
    wait_witnessed($name, '1', "$name: it runs on a1");
    $f->wait_for('parent', "SELECT state || server FROM fleet.task_run WHERE task = 't' AND run_id = $run{$name}", 'runninga1', "$name: and the parent knows");
}
# a changed setting counts at once, for what runs already too
$f->sql(q{LOAD 'pg_fleet'; ALTER SYSTEM SET fleet.lost_after = '2s'; SELECT pg_reload_conf()});
$f->node('a1')->stop('immediate');
$run{elsewhere} = $f->start('elsewhere');
set('w1', 'online');
$f->run_is($run{elsewhere}, 'succeeded', 'what never began on the lost server runs on another one of its group');
is($f->sql("SELECT server || ' ' || state FROM fleet.task_run WHERE run_id = $run{elsewhere}"), 'w1 succeeded', 'and says where');
like($f->sql(q{SELECT state || ' ' || last_error FROM fleet.server_status WHERE server = 'a1'}), qr/^suspect .+/, 'the lost server is suspect, with the reason');
is($f->sql("SELECT count(*) FROM fleet.server_status WHERE server = 'a1' AND last_error_at >= last_seen"), '1', 'which came after it was seen last');
$f->run_is($run{lost}, 'succeeded', 'lost: handled by a task on its failure');
$f->run_is($run{lost_too}, 'failed', 'lost_too: not handled');
$f->run_is($run{no_retries}, 'failed', 'no_retries: on_lost => retry without retries');
wait_witnessed('retried', '2', 'retried: it is started again, elsewhere');
$f->release('retried');
$f->run_is($run{retried}, 'succeeded', 'retried: and succeeds there');
my $told = '08006 its server did not come back within fleet.lost_after';
for my $name (qw(lost lost_too no_retries))
{
    is($f->sql("SELECT concat_ws(' ', state, attempt, server, sqlstate, message) FROM fleet.task_run WHERE run_id = $run{$name} AND task = 't'"), "lost 1 a1 $told", "$name: state, SQLSTATE and message");
    is($f->sql_on('witness', "SELECT string_agg(server, ' ' ORDER BY id) FROM event WHERE key = '$name' AND what = 'start'"), 'a1', "$name: it was not started elsewhere");
    is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run{$name} AND task = 't' AND level = 'ERROR' AND sqlstate || ' ' || message = '$told'"), '1', "$name: one line in the log");
}
is($f->sql("SELECT message FROM fleet.run WHERE run_id = $run{lost_too}"), 'task "t" lost: its server did not come back within fleet.lost_after', "lost_too: the run's message");
is($f->sql("SELECT string_agg(task || '=' || state, ' ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run{lost}"), 't=lost help=succeeded after=skipped', 'lost: it counts as a failure for what follows');
is($f->sql("SELECT concat_ws(' ', state, attempt, server) FROM fleet.task_run WHERE run_id = $run{retried}"), 'succeeded 2 w1', 'retried: the second attempt, on the other server');
is($f->sql_on('witness', q{SELECT string_agg(server || ' ' || usr, ', ' ORDER BY id) FROM event WHERE key = 'retried' AND what = 'start'}), 'a1 etl, d1 w1', 'retried: as the witness says');
$f->node('a1')->start;
set('w1', 'draining');
$run = $f->start('elsewhere');
$f->run_is($run, 'succeeded', 'a server that came back gets work again');
is($f->sql("SELECT server FROM fleet.task_run WHERE run_id = $run"), 'a1', 'that server');
is($f->sql(q{SELECT state FROM fleet.server_status WHERE server = 'a1'}), 'online', 'it is not suspect any more');
$f->release('*');
set('w1', 'online');
$f->done(crashes => 1);
