# Very many items are stored in slices, a slice a turn; they are one for_each all the same.  Between
# two slices other runs go on; an agent that ends there leaves nothing behind that its successor
# would take for the whole; a cancel there ends all that is there, and nothing comes afterwards.
#   (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 0, direct => 1, slots => 8);
my $SLICE = 2048;                # STORE_SLICE of agent/query.c
my $items = $SLICE + 904;

$f->sql('CREATE ROLE bystander LOGIN');
$f->sql(q{SET ROLE bystander; SELECT fleet.create_package('tick'); SELECT fleet.add_task('tick', 't', sql => 'SELECT 1')});

sub rows
{
    my ($run, $task) = @_;
    return $f->sql("SELECT count(*) || ' ' || count(DISTINCT item) || ' ' || coalesce(max(item), 0) FROM fleet.task_run WHERE run_id = $run AND task = '" . ($task || 't') . q{' AND item > 0});
}
sub in_state { my ($run, $state) = @_; return $f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = '$state'"); }
sub items_package
{
    my ($name, $n, %more) = @_;
    $f->package($name, t => { for_each => "SELECT jsonb_build_object('i', i) FROM generate_series(1, $n) AS i", %more });
    return;
}
# It is between the first two slices: the first one is committed, the second one not begun.
sub between
{
    my ($package) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->point('parent', 'items_next_slice', 'wait');
    my $run = $f->start($package);
    $f->point_waits('parent', 'items_next_slice', "$package: one slice of its items is stored");
    is(rows($run), "$SLICE $SLICE $SLICE", "$package: that many rows are there");
    is(in_state($run, 'queued'), $SLICE, "$package: of which none has begun");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run AND item = 0"), 'queued', "$package: nor has the task");
    return $run;
}
sub go_on { $f->point_release('parent', 'items_next_slice'); return; }

# ---- sizes about one slice ---------------------------------------------------------------------

# On a server that is offline: the rows are all there, and nothing runs.
$f->sql(q{SELECT fleet.set_server_state('d1', 'offline')});
$f->job('noop', 'SELECT 1');
my %stays = (job => 'noop', server => 'd1');
for my $n (0, 1, $SLICE - 1, $SLICE, $SLICE + 1, 2 * $SLICE, 2 * $SLICE + 1)
{
    items_package("stay $n", $n, %stays);
    my $run = $f->start("stay $n");
    if ($n == 0)
    {
        $f->run_is($run, 'succeeded', 'a for_each without a row succeeds');
        is(rows($run), '0 0 0', 'and has no item');
        next;
    }
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND item = 0", 'running', "$n items: the task begins");
    is(rows($run), "$n $n $n", "$n items: all of them are there then");
    $f->sql("SELECT fleet.cancel_run($run)");
    $f->run_is($run, 'canceled', "$n items: they can be canceled");
    is(in_state($run, 'canceled'), $n, "$n items: each of them");
}

# ---- other runs go on between two slices -------------------------------------------------------

# The other run is asked for while the agent is held between two slices, and the agent is held between
# all of the next ones too, so that their number is the measure and not the time.
my $tick = sub { return $f->sql("SET ROLE bystander; SELECT fleet.run_parent_package('tick')"); };
$f->run_is($tick->(), 'succeeded', 'another role has a runner');
items_package('long', 16 * $SLICE, %stays);
my $run = between('long');
my $other = $tick->();
my $ended = sub { return $f->sql("SELECT finished_at IS NOT NULL FROM fleet.run WHERE run_id = $other") eq 't'; };
for (1 .. 14)
{
    $f->point('parent', 'items_next_slice', 'wait');
    unlink $f->parent->data_dir . '/fleet_points/items_next_slice.waiting';
    $f->point_waits('parent', 'items_next_slice', 'the next slice is stored');
    last if $ended->();
}
ok($ended->(), "between two slices another role's run begins and ends");
cmp_ok((split / /, rows($run))[0], '<', 16 * $SLICE, 'while not all items are stored');
go_on();
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND item = 0", 'running', 'then the items go on');
is(rows($run), join(' ', (16 * $SLICE) x 3), 'all of them');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'the long one is canceled');

# ---- a cancel between two slices ---------------------------------------------------------------

items_package('canceled', $items, %stays);
$run = between('canceled');
$f->sql("SELECT fleet.cancel_run($run)");
go_on();
$f->run_is($run, 'canceled', 'a run is canceled between two slices');
is(in_state($run, 'canceled'), (split / /, rows($run))[0], 'the items that were stored are canceled');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND finished_at IS NULL"), '0', 'nothing of it is open');

# ---- the agent ends between two slices ---------------------------------------------------------

# Its successor asks the query again, which has fewer rows now: nothing of the first answer is left.
$f->sql('CREATE TABLE etl.list AS SELECT i FROM generate_series(1, 9000) AS i; GRANT SELECT ON etl.list TO PUBLIC');
for my $end ('pg_terminate_backend', 'cancel')
{
    $f->sql('TRUNCATE etl.list; INSERT INTO etl.list SELECT i FROM generate_series(1, 9000) AS i');
    $f->package("ended $end", t => { for_each => q{SELECT jsonb_build_object('i', i) FROM etl.list ORDER BY i}, %stays });
    $run = between("ended $end");
    $f->sql('DELETE FROM etl.list WHERE i > 100');
    my $agent = $f->agent_pid('parent');
    $f->sql("SELECT fleet.cancel_run($run)") if $end eq 'cancel';
    $f->sql("SELECT pg_terminate_backend($agent)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $agent", '0', "$end: the agent has ended");
    go_on();
    if ($end eq 'cancel')
    {
        $f->run_is($run, 'canceled', 'the next agent cancels the run');
        is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND finished_at IS NULL"), '0', 'nothing of it is open');
        next;
    }
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND item = 0", 'running', 'with the next agent, the task begins');
    is(rows($run), '100 100 100', 'with the items that the query gives now, and no other');
    $f->sql("SELECT fleet.cancel_run($run)");
    $f->run_is($run, 'canceled', 'that one is canceled');
}

# ---- a row that is no item, in any slice -------------------------------------------------------

for my $bad (1, $SLICE, $SLICE + 1, $items)
{
    $f->package("bad $bad", t => { for_each => "SELECT CASE WHEN i = $bad THEN to_jsonb(i) ELSE jsonb_build_object('i', i) END FROM generate_series(1, $items) AS i", sql => 'SELECT 1' });
    $run = $f->start("bad $bad");
    $f->run_is($run, 'failed', "row $bad is no object: the run fails");
    is($f->sql("SELECT count(*) FILTER (WHERE item > 0) || ' ' || max(message) FROM fleet.task_run WHERE run_id = $run"),
        "0 for_each: row $bad: not a JSON object: $bad", 'which says so, and no item of it is there');
}

# ---- two at once, and their work ---------------------------------------------------------------

items_package('two', $items, sql => q{INSERT INTO etl.effect (key) VALUES (fleet.param('i'))});
$f->sql(qq{SELECT fleet.add_task('two', 'u', for_each => \$\$SELECT jsonb_build_object('i', i) FROM generate_series(1, 200) AS i\$\$,
    sql => 'INSERT INTO etl.effect (key) VALUES (''u'' || fleet.param(''i''))')});
$run = $f->start('two');
$f->run_is($run, 'succeeded', 'two at once come to their end');
is($f->sql("SELECT count(*) || ' ' || count(DISTINCT key) FROM etl.effect"), join(' ', ($items + 200) x 2), 'each item has one effect');
is(rows($run) . ', ' . rows($run, 'u'), "$items $items $items, 200 200 200", 'and one row');

$f->done(crashes => 0);
