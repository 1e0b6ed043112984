# (runs long)
# What a direct server says of a session that was cut, or that is silent: one that is still at work is
# ended before anything is done again, whatever somebody has reset, revoked or switched off over there;
# one that is at work is let be, though the server does not tell.  Never twice, never guessed.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 0, direct => 1, proxy => 1, delays => 0);
my $d1 = $f->node('d1');
my $proxy = $f->proxy;
sub on_d1 { my ($sql) = @_; return $d1->safe_psql($FleetTest::DB, $sql); }

# It can have standbys.
$d1->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 2");
$d1->restart;

# A row that is committed only when somebody says so, in the transaction's last moment.
on_d1(<<'SQL');
SET ROLE etl;
CREATE TABLE etl.slow (key text);
CREATE TABLE etl.go ();
CREATE FUNCTION etl.wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('commit');
    WHILE NOT EXISTS (SELECT FROM etl.go) LOOP PERFORM pg_sleep(0.02); END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON etl.slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION etl.wait_at_commit();
SQL
$f->job('slow', q{SELECT etl.work(); INSERT INTO etl.slow VALUES (etl.key())});
$f->job('work', 'SELECT etl.work()');
$f->job('long', q{SELECT etl.work_until_released()});
$f->package($_, -params => '{"key": null}', t => { job => $_, server => 'd1' }) for qw(slow work long);

my $COMMITS = q{SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'};
sub go { on_d1('SET ROLE etl; INSERT INTO etl.go DEFAULT VALUES'); return; }
sub stop { on_d1('SET ROLE etl; TRUNCATE etl.go'); return; }

# One run whose COMMIT is under way on d1.
sub begin
{
    my ($package, $key) = @_;
    note "---- $key";
    my $run = $f->start($package, qq({"key": "$key"}));
    $f->wait_for('d1', $COMMITS, '1', "$key: its COMMIT is under way");
    return $run;
}
sub once
{
    my ($run, $key, $starts) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->run_is($run, 'succeeded', "$key: the run succeeds");
    is($f->effects('d1', $key), 1, "$key: one effect");
    is($f->witnessed($key, 'start'), $starts, "$key: " . ($starts == 1 ? 'it was not done again' : 'it was done again, after the first one was ended'));
    is($f->sql("SELECT count(*) FILTER (WHERE state NOT IN ('succeeded')) FROM fleet.job_log WHERE run_id = $run"), '0', "$key: and the log has nothing else");
    return;
}

# ---- a slow COMMIT, and statistics that somebody resets ----------------------------------------

my %reset = (
    archiver => q{SELECT pg_stat_reset_shared('archiver')},
    bgwriter => q{SELECT pg_stat_reset_shared('bgwriter')},
    wal => q{SELECT pg_stat_reset_shared('wal')},
    'all of them' => q{SELECT pg_stat_reset_shared(k) FROM unnest('{archiver,bgwriter,wal}'::text[]) AS k},
);
for my $what ('', sort keys %reset)
{
    my $key = 'slow, ' . ($what ? "reset: $what" : 'nothing reset');
    stop();
    my $run = begin('slow', $key);
    on_d1($reset{$what}) if $what;
    $proxy->ctl('kill', 'd1');
    # the first session must be ended before the second one begins
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'commit'", '2', "$key: it is done again");
    is(on_d1($COMMITS), '1', "$key: the first COMMIT is not under way any more");
    go();
    once($run, $key, 2);
}

# It waits for a standby that does not come: committed here, and told to nobody.  Ended, it stays committed.
$d1->safe_psql('postgres', $_) for q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'}, 'SELECT pg_reload_conf()';
for my $what ('', 'archiver')
{
    my $key = 'no standby, ' . ($what ? "reset: $what" : 'nothing reset');
    my $run = begin('work', $key);
    on_d1("SET synchronous_commit = local; $reset{$what}") if $what;
    $proxy->ctl('kill', 'd1');
    once($run, $key, 1);
}
$d1->safe_psql('postgres', $_) for 'ALTER SYSTEM RESET synchronous_standby_names', 'SELECT pg_reload_conf()';

# Statistics that were reset together say no more whether there was a crash: what was committed meanwhile is not believed.
{
    my $key = 'committed, all reset';
    note "---- $key";
    $proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
    my $run = $f->start('work', qq({"key": "$key"}));
    ok($proxy->fired('d1'), "$key: COMMIT is done, and its answer is held back");
    on_d1($reset{'all of them'});
    $proxy->ctl('kill', 'd1');
    $proxy->ctl('allow', 'd1');
    $f->run_is($run, 'failed', "$key: the run fails");
    is($f->sql("SELECT state || ' ' || sqlstate FROM fleet.task_run WHERE run_id = $run"), 'unknown 08007', "$key: its outcome is unknown");
    is($f->witnessed($key, 'start'), 1, "$key: it was not done again");

    # … but one of them is nobody's crash
    $key = 'committed, one reset';
    note "---- $key";
    $proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
    $run = $f->start('work', qq({"key": "$key"}));
    ok($proxy->fired('d1'), "$key: COMMIT is done, and its answer is held back");
    on_d1($reset{archiver});
    $proxy->ctl('kill', 'd1');
    $proxy->ctl('allow', 'd1');
    once($run, $key, 1);
}

# ---- who may not ask ---------------------------------------------------------------------------

# The status of transactions is not for everybody: asked again, until it is.
{
    my $key = 'revoked for a while';
    note "---- $key";
    $proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
    my $run = $f->start('work', qq({"key": "$key"}));
    ok($proxy->fired('d1'), "$key: COMMIT is done, and its answer is held back");
    on_d1(q{REVOKE EXECUTE ON FUNCTION pg_xact_status(xid8) FROM PUBLIC; ALTER ROLE etl SET log_min_messages = 'error'});
    my $at = -s $d1->logfile;
    $proxy->ctl('kill', 'd1');
    $proxy->ctl('allow', 'd1');
    ok($d1->wait_for_log(qr/permission denied for function pg_xact_status/, $at), "$key: the question is refused");
    on_d1('GRANT EXECUTE ON FUNCTION pg_xact_status(xid8) TO PUBLIC');
    once($run, $key, 1);
}

# For ever: the server cannot tell.
{
    my $key = 'revoked for good';
    note "---- $key";
    $f->sql($_) for q{ALTER SYSTEM SET fleet.lost_after = '1s'}, 'SELECT pg_reload_conf()';
    $proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
    my $run = $f->start('work', qq({"key": "$key"}));
    ok($proxy->fired('d1'), "$key: COMMIT is done, and its answer is held back");
    on_d1('REVOKE EXECUTE ON FUNCTION pg_xact_status(xid8) FROM PUBLIC');
    $proxy->ctl('kill', 'd1');
    $proxy->ctl('allow', 'd1');
    $f->run_is($run, 'failed', "$key: the run fails");
    is($f->sql("SELECT state || ' ' || sqlstate FROM fleet.task_run WHERE run_id = $run"), 'unknown 08007', "$key: its outcome is unknown");
    on_d1('GRANT EXECUTE ON FUNCTION pg_xact_status(xid8) TO PUBLIC');
    $f->sql($_) for 'ALTER SYSTEM RESET fleet.lost_after', 'SELECT pg_reload_conf()';
}

# ---- hardened servers --------------------------------------------------------------------------

# Looks at a silent session, as far as the server's log has them.
on_d1(q{ALTER ROLE etl SET log_statement = 'all'});
$proxy->ctl('kill', 'd1');
sub looks { my ($at, $n) = @_; return $d1->wait_for_log(qr/(?:pg_stat_get_activity\(\$1.*){$n}/s, $at); }
my %hard = (
    'nothing' => [ 'SELECT 1', 'SELECT 1' ],
    'track_activities = off' => [ 'ALTER ROLE etl SET track_activities = off', 'ALTER ROLE etl RESET track_activities' ],
    'the view is revoked' => [ 'REVOKE SELECT ON pg_stat_activity FROM PUBLIC', 'GRANT SELECT ON pg_stat_activity TO PUBLIC' ],
    'the function is revoked' => [ 'REVOKE EXECUTE ON FUNCTION pg_stat_get_activity(int) FROM PUBLIC', 'GRANT EXECUTE ON FUNCTION pg_stat_get_activity(int) TO PUBLIC' ],
);
for my $how (sort keys %hard)
{
    my ($do, $undo) = @{ $hard{$how} };
    my $key = "hardened, $how";
    note "---- $key";
    on_d1($do);
    $proxy->ctl('kill', 'd1');
    stop();
    my $at = -s $d1->logfile;
    my $run = $f->start('slow', qq({"key": "$key"}));
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'commit'", '1', "$key: its COMMIT is under way");
    ok(looks($at, 3), "$key: the silent session is looked at three times");
    is($f->witnessed($key, 'start'), 1, "$key: and let be");
    go();
    once($run, $key, 1);
    on_d1($undo);
}

$f->done;
