# How much log a role may leave in an hour: what is beyond that is not kept, how a step ends is, and another role has its own.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
for my $role (qw(alice bob))
{
    $f->sql("CREATE ROLE $role LOGIN");
    $f->sql("GRANT USAGE ON FOREIGN SERVER $_ TO $role; CREATE USER MAPPING FOR $role SERVER $_ OPTIONS (user 'etl', password '$FleetTest::PASSWORD')") for qw(a1 d1);
}
sub start { my ($role, $name) = @_; return $f->sql_as($role, "SELECT fleet.run_parent_package('$name')"); }

# 40 lines of 60 kB: more than one megabyte, here, on a direct server, and on one that keeps them all.
my $says = q{DO $$BEGIN FOR i IN 1 .. 40 LOOP RAISE NOTICE '%', repeat('x', 60000) USING DETAIL = i; END LOOP; RAISE division_by_zero USING MESSAGE = 'said it'; END$$};
my $lines = sub { my ($id) = @_; return $f->sql("SELECT string_agg(CASE WHEN message LIKE 'x%' THEN 'said' WHEN message ~ ' were not kept: ' THEN regexp_replace(message, ' lines .*', ' left out') ELSE regexp_replace(message, ': .*', '') END, ' ' ORDER BY seq) FROM fleet.log WHERE run_id = $id"); };
my %where = (here => { sql => $says }, d1 => { job => 'says', server => 'd1' }, a1 => { job => 'says', server => 'a1' });
for my $role (qw(alice bob))
{
    $f->sql_as($role, sprintf q{SELECT fleet.create_job('%1$s says'); SELECT fleet.add_step('%1$s says', 's', %2$s)}, $role, quote_literal($says));
    $f->sql_as($role, sprintf q{SELECT fleet.create_package('%1$s says %2$s'); SELECT fleet.add_task('%1$s says %2$s', 's', %3$s)}, $role, $_,
        $_ eq 'here' ? 'sql => ' . quote_literal($says) : "job => '$role says', server => '$_'") for sort keys %where;
}
for my $where (sort keys %where)
{
    $f->sql(q{SELECT fleet.set_quota('alice', max_log_mb => 1000000)});
    my $whole = join ' ', 'step "s" started', ('said') x 40, 'said it';
    my $first = start('alice', "alice says $where");
    is($f->wait_run($first), 'failed', "$where: a role that may say much");
    is($lines->($first), $whole, "$where: ... says it");
    $f->sql(q{SELECT fleet.set_quota('alice', max_log_mb => 1)});
    my $second = start('alice', "alice says $where");
    is($f->wait_run($second), 'failed', "$where: one that has said all that it may goes on");
    is($lines->($second), join(' ', 'step "s" started', $where eq 'a1' ? ('not kept') x 40 : '40 left out', 'said it'), "$where: ... and how it ends is kept");
    my $other = start('bob', "bob says $where");
    is($f->wait_run($other), 'failed', "$where: another role");
    is($lines->($other), $whole, "$where: ... has its own");
}
is($f->sql(q{SELECT string_agg(message, ',') FROM fleet.event WHERE kind = 'quota_reached'}), 'log lines of role "alice" are not kept: 1 MB in an hour are', 'one event says so');
$f->sql(q{SELECT fleet.drop_quota('alice')});
my $last = start('alice', 'alice says here');
is($f->wait_run($last), 'failed', 'without a quota of its own');
like($lines->($last), qr/said said/, '... it may say more');
$f->done;
