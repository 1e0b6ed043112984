# FakeServer.pm
#     A server that is none, for what a real one never says: test/fakeserver/fakeserver.py, which
#     tells what the commands are.
package FakeServer;

use strict;
use warnings;
use Carp;
use File::Basename;
use File::Temp;
use IPC::Open2;
use JSON::PP;
use FleetTest qw(quote_literal);

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
sub conninfo { return "host=127.0.0.1 port=$_[0]{port} dbname=dw sslmode=" . ($_[0]{tls} ? 'require' : 'disable'); }

# From now on it does TLS, and clients are to ask for it; or not.
sub tls
{
    my ($self, $on) = @_;
    if ($on && !$self->{tls})
    {
        $self->{tls} = File::Temp->new;
        my $file = $self->{tls}->filename;
        system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=fake -days 1 -keyout $file.key -out $file 2>/dev/null && cat $file.key >>$file && rm $file.key") == 0
          or croak 'no certificate';
    }
    $self->{tls} = undef unless $on;
    return $self->ctl(tls => $on ? $self->{tls}->filename : '');
}

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

# begin($f, mode, password, sql => …): the parent gets a server of its own here, and a run that has one job
# of one step there; the rest is the step's, and conninfo, if it is another one.  (server, run).
sub begin
{
    my ($self, $f, $mode, $password, %step) = @_;
    my $conninfo = delete $step{conninfo} || $self->conninfo;
    my $name = 'fake' . ++$self->{servers};
    my $step = join ', ', map { "$_ => " . quote_literal($step{$_}) } sort keys %step;
    my $sql = sprintf <<'SQL' =~ s/NAME/$name/gr, map({ quote_literal($_) } $conninfo, $password, $mode), $step;
SELECT fleet.add_server('NAME', %s, username => 'etl', password => %s, mode => %s, slots => 1);
SELECT fleet.create_job('NAME');
SELECT fleet.add_step('NAME', 's', %s);
SELECT fleet.create_package('NAME');
SELECT fleet.add_task('NAME', 't', job => 'NAME', server => 'NAME');
SELECT fleet.run_parent_package('NAME');
SQL
    utf8::downgrade($sql);    # bytes, for psql
    return ($name, $f->sql($sql) =~ s/.*\n//sr);
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
