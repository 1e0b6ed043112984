# The one door: whatever a server of mode agent answers, field by field and row by row, is that server's
# own trouble.  Each server here gives one wrong answer; all at the same time, while another role's
# runs go on.  No agent ends, and what people look at stays readable.  So do sessions of mode direct.
#
# The mutations are made from the rows of a good report.  FLEET_SEED repeats a choice of them,
# FLEET_ALL=1 takes them all.
use strict;
use warnings;
use FakeServer;
use FleetTest qw(quote_literal);
use Test::More;

my $f = FleetTest->new(witness => 0, register => 0, conf => "fleet.lost_after = '1h'\nmax_files_per_process = 4000");
my $fake = FakeServer->new;
my $seed = $ENV{FLEET_SEED} // int(rand(1e9));
diag("FLEET_SEED=$seed");
srand($seed);

# ---- a good report ------------------------------------------------------------------------------

my @COLUMNS = qw(kind id step_no attempt state first_seq last_seq row_count step level sqlstate message
  detail hint context output started_at finished_at logged_at seq);
my %width = (kind => 1, id => 8, row_count => 8, map({ $_ => 4 } qw(step_no attempt state first_seq last_seq seq)),
    map({ $_ => 8 } qw(started_at finished_at logged_at)));
my $NOW = 800_000_000_000_000; # in the year 2025
my ($SUCCEEDED, $RUNNING) = (11, 3);

sub number { my ($column, $value) = @_; return { 'i' . $width{$column} => "$value" }; }

# A row of it: its columns, the others null.
sub row
{
    my ($kind, $id, %value) = @_;
    my %row = (kind => { i1 => ord $kind }, id => { i8 => $id });
    $row{$_} = $width{$_} && !ref $value{$_} ? number($_, $value{$_}) : $value{$_} for keys %value;
    return \%row;
}

sub job { return row('j', $_[0], step_no => 2, attempt => 1, state => $SUCCEEDED, row_count => 1, output => '1', started_at => $NOW, finished_at => $NOW + 9, seq => 6); }
sub step
{
    my ($id, $n, $first, $state) = @_;
    return row('s', $id, step_no => $n, attempt => 1, state => $state || $SUCCEEDED, first_seq => $first, seq => $first,
        $state ? () : (last_seq => $first + 2, finished_at => $NOW + $n, row_count => 1, output => '1'), step => "s$n", started_at => $NOW);
}
sub line { my ($id, $n, $seq) = @_; return row('l', $id, step_no => $n, level => 'NOTICE', sqlstate => '00000', message => "line $seq", logged_at => $NOW, seq => $seq); }
sub report { my ($id) = @_; return [ job($id), line($id, 1, 2), line($id, 2, 5), step($id, 1, 1), step($id, 2, 4) ]; }

# ---- what can be wrong with it ------------------------------------------------------------------

my ($MIN8, $MAX8) = ('-9223372036854775808', '9223372036854775807');

# What no column of that kind has, or not this one.
sub wrong_values
{
    my ($column) = @_;
    my $width = $width{$column};
    return ([ undef, 'null' ], [ '', 'empty' ], [ { hex => 'fffe00c3' }, 'no characters' ], [ 'x' x 100_000, 'long' ], [ 'NaN', 'NaN' ], [ q{'; DROP TABLE x; --}, 'quotes' ])
      unless $width;
    my @numbers = $width == 1 ? (0, 122, 255) : $width == 4 ? (-1, 0, 6, 10, 17, 32768, 65536, 2147483647, -2147483648) : (-1, 0, $MIN8, $MAX8, 4611686018427387904, -4611686018427387904, '9221120237041090560');
    return ([ undef, 'null' ], [ '', 'empty' ], [ { hex => '010203' }, 'three bytes' ], [ { hex => '0102030405060708090a0b0c' }, 'twelve bytes' ],
        [ 'text', 'a text' ], map { [ number($column, $_), $_ ] } @numbers);
}

my %at = (job => 0, line => 1, step => 3);
my @mutations;
for my $what (sort keys %at)
{
    for my $column (@COLUMNS)
    {
        for my $wrong (wrong_values($column))
        {
            my ($value, $name) = @$wrong;
            push @mutations, [ "$what: $column is $name", sub { my $rows = report($_[0]); $rows->[ $at{$what} ]{$column} = $value; return @$rows; } ];
        }
    }
}
# Only an answer that is about something else says nothing: that is not wrong, but silence.
@mutations = grep { $_->[0] !~ /^job: id is [1-9]/ } @mutations;
# by chance, but for those that are known to have hurt
my $HURT = qr/^(?:step: (?:started_at is (?:null|$MIN8|$MAX8)|step is null|state is 14|step_no is 32768|first_seq is 2147483647)|line: (?:message|level|logged_at) is null|line: logged_at is $MAX8|job: (?:started_at is $MAX8|finished_at is $MIN8|state is 17))$/;
my @known = grep { $_->[0] =~ $HURT } @mutations;
my @chance = sort { $a->[1] <=> $b->[1] } map { [ $_, rand ] } grep { $_->[0] !~ $HURT } @mutations;
@mutations = (@known, map { $_->[0] } $ENV{FLEET_ALL} ? @chance : @chance[0 .. 79]);

# rows that are good, each for itself: name, rows, what the server is said to have done (undef: the run succeeds)
my $TWICE = 'the server reports job run %d twice in one answer';
my @orders = (
    [ 'as it should be', sub { @{ report($_[0]) } }, undef ],
    [ 'a step twice', sub { my @r = @{ report($_[0]) }; (@r[ 0 .. 3 ], @r[ 3, 4 ]) }, 'the server reports a step or a line out of order' ],
    [ 'a step that is at work, and has ended', sub { my @r = @{ report($_[0]) }; ($r[0], step($_[0], 1, 1, $RUNNING), $r[3], $r[4]) }, 'the server reports a step or a line out of order' ],
    [ 'steps from the end', sub { my @r = @{ report($_[0]) }; @r[ 0, 1, 2, 4, 3 ] }, 'the server reports a step or a line out of order' ],
    [ 'lines from the end', sub { my @r = @{ report($_[0]) }; @r[ 0, 2, 1, 3, 4 ] }, 'the server reports a step or a line out of order' ],
    [ 'a line twice', sub { my @r = @{ report($_[0]) }; @r[ 0, 1, 1, 2, 3, 4 ] }, 'the server reports a step or a line out of order' ],
    [ 'everything twice', sub { (@{ report($_[0]) }) x 2 }, $TWICE ],
    [ 'a job run that is at work, and has ended', sub { my $j = job($_[0]); $j->{state} = number(state => $RUNNING); ($j, @{ report($_[0]) }) }, $TWICE ],
    [ 'a step of a state that a step never has', sub { my @r = @{ report($_[0]) }; $r[3]{state} = number(state => 99); @r }, 'the server reports a state that does not exist: 99' ],
    [ 'a step that ended before it began', sub { my @r = @{ report($_[0]) }; $r[3]{last_seq} = number(last_seq => 0); @r }, 'the server reports a step that ended before it began' ],
    [ 'a state of no job run', sub { my @r = @{ report($_[0]) }; $r[0]{state} = number(state => 4); @r }, 'the server reports a state that does not exist: 4' ],
    [ 'a row of a kind that is none', sub { my @r = @{ report($_[0]) }; $r[3]{kind} = { i1 => ord 'z' }; @r }, 'the server reports a row of the unknown kind 122' ],
);
# one row 150,000 times
sub again
{
    my ($what, $error) = @_;
    return [ "$what 150,000 times", sub { my @r = @{ report($_[0]) }; ($r[0], [ 150_000, $r[ $at{$what} ] ]) }, $error ];
}
push @orders, again('step', 'the server reports a step or a line out of order'), again('line', 'the server reports a step or a line out of order'), again('job', $TWICE);

# ---- the servers --------------------------------------------------------------------------------

$f->sql(<<'SQL');
CREATE ROLE other LOGIN;
SET ROLE other;
SELECT fleet.create_package('line');
SELECT fleet.add_task('line', 't', sql => 'SELECT 1');
SQL

sub others_go_on
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($rc, $out, $err) = $f->try_as('other', q{CALL fleet.execute_package('line')});
    is($rc, 0, "another role's run succeeds: $name") or diag($err);
    return;
}
others_go_on('before all');
my $STARTS = 'SELECT starts FROM fleet_catalog.agent';
my $starts = $f->sql($STARTS);

# Everything that people look at can be read, from its first row to its last.
sub readable
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $view (map { "fleet.$_" } qw(run task_run step_run job_log log server_status progress recent))
    {
        my ($rc, $out, $err) = $f->try_as('postgres', "SELECT sum(length(v::text)) FROM $view AS v");
        is("$rc $err", '0 ', "$name: $view can be read");
    }
    return;
}

my $number = 100;
my @all_rules;

# One server for each: [name, rows, …].  Returns the run; $case->[3] is the server.
sub begin
{
    my ($package, @cases) = @_;
    my @rules;
    my $sql = "SELECT fleet.create_package('$package');\n";
    for my $case (@cases)
    {
        my $id = ++$number;
        $case->[3] = "m$id";
        my @rows = map { ref $_ eq 'ARRAY' ? [ 'times', $_->[0], [ 'row', [ @{ $_->[1] }{@COLUMNS} ] ] ] : [ 'row', [ @{$_}{@COLUMNS} ] ] } $case->[1]->($id);
        push @rules, [ on => "^execute SELECT \\* FROM fleet_link.agent_fetch.*/\\{[0-9,]*\\b$id\\b", send => [ @rows, [ 'complete', 'SELECT 1' ] ] ];
        $sql .= sprintf <<'SQL', $id, quote_literal($fake->conninfo);
SELECT fleet.add_server('m%1$d', %2$s, username => 'postgres', mode => 'agent', slots => 1);
SELECT fleet.create_job('m%1$d');
SELECT fleet.add_step('m%1$d', 's', 'SELECT 1');
SQL
        $sql .= "SELECT fleet.add_task('$package', 'm$id', job => 'm$id', server => 'm$id');\n";
        push @rules, [ on => "^execute SELECT \\* FROM fleet_link.agent_start.*\\bm$id\\b",
            send => [ [ 'row', [ { i4 => 1 }, { i8 => $id }, { i1 => 1 }, undef, undef, undef ] ], [ 'complete', 'SELECT 1' ], [ 'notify', "$id" ] ] ];
        push @rules, [ on => "^execute SELECT \\* FROM fleet_link.agent_resume", send => ['hang'] ];
    }
    @all_rules = (@rules, @all_rules);
    $fake->rules(@all_rules);
    return $f->sql("${sql}SELECT fleet.run_parent_package('$package')") =~ s/.*\n//sr;
}

# Each of them has an outcome: the task's, or a reason why the server is down.
my $OPEN = <<'SQL';
SELECT coalesce(string_agg(t.task, ' ' ORDER BY t.task), '') FROM fleet.task_run AS t LEFT JOIN fleet.server_status AS s USING (server)
 WHERE t.run_id = %d AND t.finished_at IS NULL AND s.last_error IS NULL
SQL

sub outcomes
{
    my ($run, $name, @cases) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run", scalar @cases, "$name: the run has begun");
    $f->wait_for('parent', sprintf($OPEN, $run), '', "$name: each has an outcome");
    is($f->sql($STARTS), $starts, "$name: no agent has ended")
      or diag(join "\n", map { "$_->[3]: $_->[0]" } @cases);
    for my $case (grep { $name ne 'mutations' } @cases)
    {
        my $expected = defined $case->[2] ? sprintf($case->[2], $case->[3] =~ s/^m//r) : 'succeeded';
        is($f->sql("SELECT coalesce(s.last_error, t.state) FROM fleet.task_run AS t LEFT JOIN fleet.server_status AS s USING (server) WHERE t.run_id = $run AND t.task = '$case->[3]'"),
            $expected, "$case->[0]: it is said");
    }
    others_go_on($name);
    readable($name);
    return;
}

my $run = begin('orders', @orders);
outcomes($run, 'orders', @orders);

while (my @some = splice @mutations, 0, 50)
{
    $run = begin('mutations' . ++$number, @some);
    outcomes($run, 'mutations', @some);
}

# ---- mode direct --------------------------------------------------------------------------------

# name, what the command is answered with, how the run ends: state, SQLSTATE
my @direct = (
    (map { [ "an error with the SQLSTATE \"$_\"", [ [ 'error', $_, 'odd' ] ], "failed|XX000" ] } '', 'abcde', '1234', '1234567', "\x{e4}\x{f6}\x{fc}zz", '22P0 '),
    (map { [ "a notice with the SQLSTATE \"$_\"", [ [ 'notice', $_, 'odd' ], [ 'complete', 'SELECT 1' ] ], 'succeeded|' ] } '', 'x', "\x{e4}\x{f6}\x{fc}zz"),
    (map { [ "the tag \"$_\"", [ [ 'complete', $_ ] ], 'succeeded|' ] } '', 'SELECT 99999999999999999999999', 'SELECT -5', 'SELECT NaN', 'x' x 60),
);
my @rules;
my $sql = "SELECT fleet.create_package('direct');\n";
for my $case (@direct)
{
    my $id = ++$number;
    push @$case, "d$id";
    push @rules, [ on => "^execute SELECT $id\\b", send => $case->[1] ];
    $sql .= sprintf <<'SQL', $id, quote_literal($fake->conninfo);
SELECT fleet.add_server('d%1$d', %2$s, username => 'postgres', mode => 'direct', slots => 1);
SELECT fleet.create_job('d%1$d');
SELECT fleet.add_step('d%1$d', 's', 'SELECT %1$d');
SELECT fleet.add_task('direct', 'd%1$d', job => 'd%1$d', server => 'd%1$d');
SQL
}
$fake->rules(@rules, @all_rules);
$run = $f->sql("${sql}SELECT fleet.run_parent_package('direct')") =~ s/.*\n//sr;
is($f->wait_run($run), 'failed', 'direct: the run fails, as some of its tasks do');
is($f->sql("SELECT state || '|' || coalesce(sqlstate, '') FROM fleet.task_run WHERE run_id = $run AND task = '$_->[3]'"), $_->[2], "direct: $_->[0]") for @direct;
others_go_on('direct');
readable('direct');

# What is still open is asked for again, and not known there any more.
$fake->rules([ on => '^execute SELECT \* FROM fleet_link.agent_resume', send => [ [ 'row', [ { i4 => 1 }, undef, undef, undef ] ], [ 'complete', 'SELECT 1' ] ] ]);
$fake->ctl(cut => JSON::PP::true);
$f->wait_for('parent', 'SELECT count(*) FROM fleet.run WHERE finished_at IS NULL', '0', 'all runs have ended');
is($f->sql($STARTS), $starts, 'and still no agent has');
readable('at the end');

$f->done(made => 1);
