# What the next agent takes up: a job that runs here goes on; what may not start does not start under it either.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(direct => 1, delays => 0);
my $end_agent = sub {
    my $old = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($old)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $old", '0', 'the agent ends');
};

$f->job('stays', q{SELECT etl.work_until_released()}, q{SELECT etl.work()});
$f->package('here', t => { job => 'stays', params => '{"key": "here"}' });
my $run = $f->start('here');
$f->wait_started('here', 1);
$end_agent->();
$f->release('here');
$f->run_is($run, 'succeeded', 'a job that runs in the parent outlives its agent');
is($f->sql(q{SELECT count(*) FROM etl.effect WHERE key = 'here'}), '2', 'each of its steps is done once');

# A run that may no longer use a job: the agent ends between the commit of the start and its failure.
$f->sql(q{CREATE ROLE owner LOGIN; CREATE ROLE member LOGIN; GRANT owner TO member; GRANT USAGE ON SCHEMA etl TO owner, member; GRANT INSERT ON etl.effect TO owner, member;
    GRANT USAGE ON FOREIGN SERVER d1 TO owner, member;
    CREATE USER MAPPING FOR owner SERVER d1 OPTIONS (user 'etl', password 'etl-secret'); CREATE USER MAPPING FOR member SERVER d1 OPTIONS (user 'etl', password 'etl-secret')});
$f->sql_as('owner', q{SELECT fleet.create_job('theirs'); SELECT fleet.add_step('theirs', 's', $$INSERT INTO etl.effect VALUES ('theirs')$$)});
for my $case ([ here => '' ], [ direct => q{, server => 'd1'} ])
{
    my ($at, $place) = @$case;
    $f->sql('GRANT owner TO member');
    $f->sql_as('member', qq{SELECT fleet.create_package('uses $at'); SELECT fleet.add_task('uses $at', 'hold', sql => 'SELECT etl.work_until_released()', params => '{"key": "$at"}');
        SELECT fleet.add_task('uses $at', 't', job => 'theirs', after => '{hold}'$place)});
    $run = $f->sql_as('member', "SELECT fleet.run_parent_package('uses $at')");
    $f->wait_started($at, 1);
    $f->sql('REVOKE owner FROM member');
    $f->point('parent', 'task_cannot_start', 'exit');
    $f->release($at);
    $f->point_fired('parent', 'task_cannot_start', "the agent ends before it refuses a start, $at");
    $f->run_is($run, 'failed', 'the next one refuses it');
    is($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run AND task = 't'"),
        q{failed 42501 the run's owner is not a member of the owner of job "theirs"}, 'and says why');
    is($f->sql_on($at eq 'here' ? 'parent' : 'd1', q{SELECT count(*) FROM etl.effect WHERE key = 'theirs'}), '0', 'nothing of it was done');
}

$f->done(crashes => 1);
