# The items of a for_each: how big they are (cost) decides the order of their starts before anything is
# learned, also under the next agent; what they are called (item_key) is what they are learned and
# logged by, from run to run; what cannot be is an error of the task, and nothing of it has begun.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 1, delays => 0);
$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('nap', q{SELECT pg_sleep((current_setting('fleet.params')::jsonb ->> 's')::float8)});

# Keys of the items in the order in which they began (what was cut off on a direct server begins again).
sub order { my ($like) = @_; return $f->sql_on('witness', "SELECT string_agg(key, ' ' ORDER BY id) FROM (SELECT key, min(id) AS id FROM event WHERE what = 'start' AND key LIKE '$like' GROUP BY key) AS e"); }
sub learned { my ($package) = @_; return $f->sql("SELECT coalesce(string_agg(item_key || ' ' || samples, ', ' ORDER BY item_key), '') FROM fleet_catalog.duration WHERE package = '$package' AND item_key <> ''"); }
sub items { my ($run, $what) = @_; return $f->sql("SELECT string_agg($what, ' ' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND item > 0"); }
sub expected
{
    my ($package, $run) = @_;
    return $f->sql("SELECT string_agg(e.basis || ' ' || round(e.estimate_us / 1000000.0), ', ' ORDER BY e.item) FROM fleet_catalog.package AS p, fleet_catalog.expected(p.name, fleet_catalog.tasks_of(p), '{}', $run) AS e WHERE p.name = '$package'");
}

# ---- cost: the first run, nothing is known, and the agent is replaced in the middle -------------

my %five = (
    job => 'hold',
    for_each => q{SELECT key, size, key AS name FROM (VALUES (fleet.param('p') || '1', 3), (fleet.param('p') || '2', 40), (fleet.param('p') || '3', NULL), (fleet.param('p') || '4', 0), (fleet.param('p') || '5', 600)) AS v (key, size)},
    cost => 'size', item_key => 'name');
for my $server (qw(a1 d1))
{
    my $package = "sizes on $server";
    $f->package($package, -params => '{"p": null}', t => { %five, server => $server });
    my $run = $f->start($package, qq({"p": "$server-"}));
    $f->wait_started("$server-5");
    is(items($run, 'item_key'), "$server-1 $server-2 $server-3 $server-4 $server-5", "$server: the items have their keys");
    is(items($run, "coalesce(cost::text, '-')"), '3 40 - 0 600', "$server: and their costs");
    my $agent = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($agent)");
    $f->wait_for('parent', "SELECT running AND pid <> $agent FROM fleet.agent_status()", 't', "$server: another agent is there");
    $f->release("$server-$_") for 1 .. 5;
    $f->run_is($run, 'succeeded', "$server: the run goes on");
    # the one without a cost counts as one of the mean of those that have one, which is 41.6
    is(order("$server-_"), join(' ', map { "$server-$_" } 5, 3, 2, 1, 4), "$server: the largest first, then the next ones");
    is($f->sql("SELECT string_agg(DISTINCT item_key, ' ' ORDER BY item_key) FROM fleet.job_log WHERE run_id = $run"), "$server-1 $server-2 $server-3 $server-4 $server-5", "$server: job_log names them");
    is($f->sql("SELECT string_agg(DISTINCT item_key, ' ' ORDER BY item_key) FROM fleet.log WHERE run_id = $run"), "$server-1 $server-2 $server-3 $server-4 $server-5", "$server: so does log");
}

# What is known of the task is that of an item of mean cost; in a run that goes on, too.
$f->package('known', t => { %five, server => 'd1', for_each => q{SELECT 'known-' || i AS key, i AS size, i AS name FROM generate_series(1, 3) AS i} });
$f->sql(q{INSERT INTO fleet_catalog.duration (package, task, item_key, job, log_mean, log_spread, samples) VALUES ('known', 't', '', '', ln(20e6), 0.05, 1), ('known', 't', '2', '', ln(7e6), 0.05, 1)});
my $run = $f->start('known');
$f->wait_started('known-3');
is(expected('known', $run), 'cost 10, item 7, cost 30', 'what the items of a run are expected to take');
is($f->sql("SELECT eta BETWEEN now() + interval '30 s' AND now() + interval '60 s' FROM fleet.progress WHERE run_id = $run"), 't', 'and when it will end');
$f->release("known-$_") for 1 .. 3;
$f->run_is($run, 'succeeded', 'it does');

# ---- item_key: what is learned of an item is its own, whatever else its row says ---------------

for my $server (qw(a1 d1))
{
    my $package = "naps on $server";
    $f->package($package, -params => '{"day": null}',
        t => { job => 'nap', server => $server, item_key => 'name', for_each => q{SELECT s, name, fleet.param('day') AS day FROM (VALUES (0.06, 'short'), (0.5, 'long'), (0.2, 'middle')) AS v (s, name)} });
    $f->run_is($f->start($package, '{"day": "monday"}'), 'succeeded', "$server: a first run");
    is(learned($package), 'long 1, middle 1, short 1', "$server: learned by key");
    my $second = $f->start($package, '{"day": "tuesday"}');
    $f->run_is($second, 'succeeded', "$server: a second run, with other parameters");
    is($f->sql("SELECT string_agg(item_key, ' ' ORDER BY started_at) FROM fleet.task_run WHERE run_id = $second AND item > 0"), 'long middle short', "$server: starts what takes longest first");
    is(learned($package), 'long 2, middle 2, short 2', "$server: and is learned from");
    is($f->sql("SELECT string_agg(DISTINCT basis, ' ') FROM fleet.plan('$package')"), 'item', "$server: plan() knows the items by key");
}

# A restart takes them over as they are.
$f->sql(q{CREATE TABLE etl.broken (key text); INSERT INTO etl.broken VALUES ('again-2'); GRANT SELECT ON etl.broken TO PUBLIC});
$f->package('again', t => { sql => q{SELECT 1 / CASE WHEN EXISTS (SELECT FROM etl.broken WHERE key = fleet.param('key')) THEN 0 ELSE 1 END}, cost => 'size', item_key => 'name',
    for_each => q{SELECT 'again-' || i AS key, i AS size, 'n' || i AS name FROM generate_series(1, 3) AS i} });
$run = $f->start('again');
$f->run_is($run, 'failed', 'an item fails');
my ($rc, $out, $err) = $f->try_as(undef, q{CALL fleet.execute_package('again')});
like($err, qr/^DETAIL:  t\[2: n2\]: failed \(22012\): division by zero$/m, 'execute_package() names it by its key');
$f->sql('TRUNCATE etl.broken');
my $again = $f->sql("SELECT fleet.restart_run($run)");
$f->run_is($again, 'succeeded', 'the run is restarted');
is(items($again, "item_key || '=' || cost"), 'n1=1 n2=2 n3=3', 'with keys and costs of its items');

# ---- what cannot be ----------------------------------------------------------------------------

my $n = 0;
sub refused
{
    my ($what, $query, $args, $message) = @_;
    my $package = 'refused ' . ++$n;
    $f->package($package, t => { sql => q{SELECT etl.work()}, for_each => $query, %$args });
    my $r = $f->start($package);
    $f->run_is($r, 'failed', "$what: the run fails");
    my $state = $f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $r AND item = 0");
    is($state, "failed F0001 for_each: $message", "$what: says the task");
    is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $r AND item > 0"), '0', "$what: there are no items");
    return;
}
my %cost = (cost => 'c');
my %key = (item_key => 'k');
refused('a cost that is negative', 'SELECT 1 AS i, 5 - 3 * i AS c FROM generate_series(1, 3) AS i', \%cost, 'row 2: column "c", which is the cost, is out of range: -1');
refused('a cost that is no number', q{SELECT 1 AS i, 'NaN'::float8 AS c}, \%cost, 'row 1: column "c", which is the cost, is not a number');
refused('a cost that is infinite', q{SELECT 1 AS i, '-Infinity'::float8 AS c}, \%cost, 'row 1: column "c", which is the cost, is not a number');
refused('a cost that is too large', q{SELECT 1 AS i, 10::numeric ^ 400 AS c}, \%cost, 'row 1: column "c", which is the cost, is out of range: Infinity');
refused('a cost that is text', q{SELECT 1 AS i, '7' AS c}, \%cost, 'row 1: column "c", which is the cost, is not a number');
refused('no such cost', q{SELECT jsonb_build_object('i', 1)}, \%cost, 'row 1: there is no column "c", which is to be the cost');
refused('no such key', q{SELECT * FROM (SELECT 1 AS i) AS x}, \%key, 'row 1: there is no column "k", which is to be the item_key');
refused('a key that is null', q{SELECT i, CASE WHEN i < 3 THEN i END AS k FROM generate_series(1, 3) AS i}, \%key, 'row 3: column "k", which is the item_key, is null');
refused('a key that is empty', q{SELECT 1 AS i, '' AS k}, \%key, 'row 1: column "k", which is the item_key, is empty');
refused('a key that is too long', q{SELECT 1 AS i, repeat('ä', 201) AS k}, \%key, 'row 1: column "k", which is the item_key, has more than 200 characters');
refused('a key that is an array', q{SELECT 1 AS i, ARRAY[1] AS k}, \%key, 'row 1: column "k", which is the item_key, is not a single value');
refused('two with one key', q{SELECT i, i % 2 AS k FROM generate_series(1, 3) AS i}, \%key, 'row 3: item_key "1" is that of row 1 already');
refused('two with one key, far apart', q{SELECT i, i % 2999 AS k FROM generate_series(1, 3000) AS i}, \%key, 'row 3000: item_key "1" is that of row 1 already');
is($f->sql('SELECT count(*) FROM etl.effect'), '0', 'nothing of these has begun');

# What a JSON document has counts as columns do; all kinds of single values are keys.
$f->package('documents', t => { sql => 'SELECT 1', for_each => q{SELECT d FROM (VALUES ('{"k": 1.50, "c": 2}'::jsonb), ('{"k": true, "c": null}'), ('{"k": " ä", "c": 1e3}')) AS v (d)}, %cost, %key });
$run = $f->start('documents');
$f->run_is($run, 'succeeded', 'documents');
is($f->sql("SELECT string_agg(item_key || '=' || coalesce(cost::text, '-'), ',' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND item > 0"), '1.50=2,true=-, ä=1000', 'their keys and costs');

$f->done;
