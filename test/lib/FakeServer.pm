# FakeServer.pm
#     A server that is none, for what a real one never says: test/fakeserver/fakeserver.py, which
#     tells what the commands are.
package FakeServer;

use strict;
use warnings;
use Carp;
use File::Basename;
use IPC::Open2;
use JSON::PP;

sub new
{
    my ($class) = @_;
    my $script = dirname(__FILE__) . '/../fakeserver/fakeserver.py';
    my $pid = open2(my $out, my $in, '/usr/bin/python3', $script, 'serve');
    my $line = <$out>;
    croak 'the fake server did not start' unless defined $line && $line =~ /^port=(\d+)/;
    return bless { pid => $pid, in => $in, out => $out, port => $1 }, $class;
}

sub port { return $_[0]{port}; }
sub conninfo { return "host=127.0.0.1 port=$_[0]{port} dbname=dw sslmode=disable"; }

# ctl(rules => […], auth => 'trust'): returns the answer
sub ctl
{
    my ($self, %command) = @_;
    print { $self->{in} } encode_json(\%command), "\n";
    $self->{in}->flush;
    my $answer = readline $self->{out};
    croak 'the fake server is gone' unless defined $answer;
    return JSON::PP->new->allow_nonref->decode($answer);
}

# rules([on => PATTERN, send => […], …], …)
sub rules { my ($self, @rules) = @_; return $self->ctl(rules => [ map { {@$_} } @rules ]); }

sub stats { return $_[0]->ctl(stats => JSON::PP::true); }

# How often the rule of this number was used.
sub fired { my ($self, $number) = @_; return $self->stats->{fired}[ $number || 0 ]; }

# How many events were like this.
sub seen
{
    my ($self, $pattern) = @_;
    my $seen = $self->stats->{seen};
    my $n = 0;
    $n += $seen->{$_} for grep { /$pattern/ } keys %$seen;
    return $n;
}

sub stop
{
    my ($self) = @_;
    return unless $self->{pid};
    close $self->{in};
    waitpid $self->{pid}, 0;
    delete $self->{pid};
    return;
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $!);
    $self->stop;
    return;
}

1;
