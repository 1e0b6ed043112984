#!/usr/bin/env bash
# make demo: a parent and four servers on this machine, real input, and one of the servers is stopped
# hard while the work is under way.  Works as root (then as the user "postgres" from the first server
# on) or as a user; leaves nothing behind.
#
#   KEEP=1 make demo     leaves the clusters running, and says how to look at them
#   demo/run.sh tour     runs demo/tour.sql instead, and prints what psql prints (doc/tour.md shows it)
set -euo pipefail
what=${1:-demo}
case $what in
    demo | tour) ;;
    *)
        echo "run.sh: there is no \"$what\"; it is \"demo\" or \"tour\"" >&2
        exit 2
        ;;
esac
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
exec </dev/null
for v in $(compgen -e PG); do unset "$v"; done

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# ---- as whoever called: build, and fetch the input ---------------------------------------------

if [ -z "${FLEET_DEMO_DIR:-}" ]; then
    test/setup.sh build >&2
    make -s -j"$(nproc)" all >&2
    dir=$(mktemp -d "${TMPDIR:-/tmp}/pg_fleet_demo.XXXXXX")
    chmod 755 "$dir"
    bindir=$(test/private_prefix.sh "$dir/prefix")
    mkdir "$dir/demo" "$dir/regions"
    cp demo/*.sql demo/*.awk demo/run.sh "$dir/demo/"
    if [ "$what" = tour ]; then
        : # it needs no input
    elif [ "$(apt-cache dumpavail | head -c 100000 | wc -c)" -lt 100000 ]; then
        echo 'no package index here yet: apt-get update'
        if [ "$(id -u)" -eq 0 ]; then apt-get update -q; else sudo apt-get update -q; fi
    fi
    [ "$what" = tour ] || apt-cache dumpavail >"$dir/packages"
    as_user=()
    if [ "$(id -u)" -eq 0 ]; then
        user=postgres
        id "$user" >/dev/null 2>&1 || { user=pg_fleet_demo; useradd -M -d / -s /bin/sh "$user"; }
        chown -R "$user" "$dir"
        as_user=(runuser -u "$user" --)
    fi
    rc=0
    (cd "$dir" && "${as_user[@]}" env HOME="$dir" PATH="$bindir:$PATH" LC_ALL=C.UTF-8 FLEET_DEMO_DIR="$dir" \
        KEEP="${KEEP:-}" bash "$dir/demo/run.sh" "$what") || rc=$?
    # what stays for a browser
    if compgen -G "$dir/*.html" >/dev/null; then
        mkdir -p build/demo
        cp "$dir"/*.html build/demo/
        printf 'pages: %s\n' "$top"/build/demo/*.html
    fi
    [ -n "${KEEP:-}" ] || rm -rf "$dir"
    exit "$rc"
fi

# ---- from here on as the user who runs the servers ---------------------------------------------

dir=$FLEET_DEMO_DIR
top=$dir
cd "$dir"
begin=$SECONDS
declare -A port
servers=(parent etl1 etl2 etl3 edge)
[ "$what" != tour ] || servers=(parent etl1 etl2 edge)

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
next=$((20000 + RANDOM % 10000))
for s in "${servers[@]}"; do
    until port_is_free "$next"; do next=$((next + 1)); done
    port[$s]=$next
    next=$((next + 1))
done

start() { pg_ctl -D "$dir/$1" -l "$dir/$1.log" -w -s start; }
# as superuser, as "etl" or "planner": on USER SERVER psql-arguments…
on()
{
    local user=$1 server=$2
    shift 2
    psql -XqAt -v ON_ERROR_STOP=1 -h "$dir" -p "${port[$server]}" -U "$user" -d dw "$@"
}
# shellcheck disable=SC2317 # called by the trap
cleanup()
{
    local s
    [ -n "${KEEP:-}" ] && return
    for s in "${servers[@]}"; do
        if [ -e "$dir/$s/postmaster.pid" ]; then pg_ctl -D "$dir/$s" -m immediate -s stop || true; fi
    done
}
trap cleanup EXIT

warehouse=child # what the servers have before
make_cluster()
{
    local s=$1
    initdb -D "$dir/$s" -U admin -A trust -N --no-locale -E UTF8 >/dev/null
    cat >>"$dir/$s/postgresql.conf" <<CONF
port = ${port[$s]}
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir'
shared_buffers = 64MB
max_wal_size = 2GB
checkpoint_timeout = 30min
autovacuum = off
password_encryption = 'scram-sha-256'
cluster_name = '$s'
CONF
    # a server that comes back after a crash shall work again by itself
    [ "$s" = edge ] || echo "shared_preload_libraries = 'pg_fleet'" >>"$dir/$s/postgresql.conf"
    printf 'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n' >"$dir/$s/pg_hba.conf"
    start "$s"
    psql -Xq -h "$dir" -p "${port[$s]}" -U admin -d postgres -c 'CREATE DATABASE dw'
    [ "$s" = parent ] || on admin "$s" -f "demo/$warehouse.sql"
    # the tour makes it itself in the parent
    [ "$s" = edge ] || [ "$what $s" = 'tour parent' ] || on admin "$s" -c 'CREATE EXTENSION pg_fleet' 2>&1
}
# All at the same time.
make_clusters()
{
    local s p pids=()
    for s in "${servers[@]}"; do
        make_cluster "$s" >"$dir/$s.setup" 2>&1 &
        pids+=($!)
    done
    for p in "${pids[@]}"; do
        wait "$p" || { cat "$dir"/*.setup >&2; exit 1; }
    done
}

# ---- the tour ----------------------------------------------------------------------------------

if [ "$what" = tour ]; then
    warehouse=tour_server
    make_clusters
    psql -X -a -q -h "$dir" -p "${port[parent]}" -U admin -d dw -v etl1="${port[etl1]}" -v etl2="${port[etl2]}" \
        -v edge="${port[edge]}" <demo/tour.sql 2>&1
    [ -z "${KEEP:-}" ] || echo "kept: psql -h $dir -p ${port[parent]} -U planner dw" >&2
    exit 0
fi

# ---- the demo ----------------------------------------------------------------------------------

say 'Input: the package index of this machine, split by archive section into regional files'
awk -v dir="$dir/regions" -f demo/split.awk packages
mv regions/totals awk_totals
printf '%s records, %s, in %s regional files\n' "$(cut -d'|' -f1 awk_totals)" \
    "$(du -h packages | cut -f1)" "$(find regions -name '*.txt' | wc -l)"

say 'Five clusters: a parent, three servers in mode agent, one in mode direct (nothing is installed there)'
make_clusters
for s in "${servers[@]}"; do printf '  %-7s port %s\n' "$s" "${port[$s]}"; done

say 'The servers, and the packages of a user without any privilege ("planner")'
on admin parent <<SQL
CREATE EXTENSION postgres_fdw;
CREATE ROLE planner LOGIN PASSWORD 'planner';
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO planner;
GRANT CREATE ON DATABASE dw TO planner;
SQL
for s in "${servers[@]:1}"; do
    mode=agent groups='{etl}'
    [ "$s" != edge ] || { mode=direct groups='{}'; }
    cat <<SQL
CREATE SERVER $s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '${port[$s]}', dbname 'dw');
CREATE USER MAPPING FOR planner SERVER $s OPTIONS (user 'etl', password 'demo');
SELECT fleet.register_server('$s', mode => '$mode', slots => 2, groups => '$groups');
SQL
done | on planner parent
on planner parent -v dir="$dir/regions" -f demo/parent.sql
# a quarter of the regions lies with the server in mode direct
for f in regions/*.txt; do printf '%s\t%s\n' "$(basename "$f" .txt)" "$(wc -c <"$f")"; done |
    sort -k2nr | awk -F'\t' '{print $1 "\t" $2 "\t" (NR % 4 == 2 ? "edge" : "etl")}' >regions.tsv
on planner parent -c "\\copy planner.region FROM regions.tsv"

echo 'deployed by the parent to the group "etl":'
on planner parent -c "SELECT * FROM fleet.deploy_job('load_region', on_group => 'etl')" >/dev/null
until [ "$(on planner parent -c "SELECT count(*) FROM fleet.deployment WHERE state = 'queued'")" = 0 ]; do :; done
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -P footer=off \
    -c 'SELECT job, server, state, message FROM fleet.deployment ORDER BY server'

say 'CALL fleet.execute_package('\''nightly'\'')    -- live; meanwhile etl2 is stopped with -m immediate, and started again'
(
    # wait until etl2 is at work and a fifth is done, then pull the plug
    until [ "$(on planner parent -c "SELECT count(*) FILTER (WHERE state = 'succeeded' AND item > 0) >= 8 AND bool_or(state = 'running' AND server = 'etl2') FROM fleet.task_run WHERE run_id = (SELECT run_id FROM fleet.recent LIMIT 1)")" = t ]; do
        [ ! -e run_over ] || exit 0
    done
    pg_ctl -D "$dir/etl2" -m immediate -s stop
    echo '   >>> etl2 was stopped with -m immediate'
    start etl2
    echo '   >>> etl2 was started again'
) &
saboteur=$!
rc=0
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -v ON_ERROR_STOP=1 -v VERBOSITY=terse \
    -c "CALL fleet.execute_package('nightly')" 2>&1 || rc=$?
touch run_over
wait "$saboteur"
if [ "$rc" -ne 0 ]; then
    echo 'the run did not succeed'
fi
run=$(on planner parent -c "SELECT run_id FROM fleet.recent WHERE package = 'nightly' LIMIT 1")

say 'The run: one row a task and item'
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -P footer=off -c "
    SELECT task, CASE WHEN item > 0 THEN params ->> 'region' END AS region, server, state,
           round(extract(epoch FROM finished_at - started_at), 2) AS seconds, row_count AS rows, attempt
      FROM fleet.task_run WHERE run_id = $run ORDER BY started_at NULLS LAST, item"
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -P footer=off -c "
    SELECT server, count(*) AS regions, round(sum(extract(epoch FROM finished_at - started_at)), 1) AS busy_seconds
      FROM fleet.task_run WHERE run_id = $run AND item > 0 GROUP BY server ORDER BY server"

say 'Totals: the fleet'\''s, and the same by awk from the file'
fleet_totals=$(on planner parent -c 'SELECT * FROM planner.totals')
{
    echo 'by|packages|bytes|installed kB|dependencies|alternatives'
    echo "fleet|$fleet_totals"
    echo "awk|$(cat awk_totals)"
} | column -t -s '|'
ok=0
if [ "$fleet_totals" = "$(cat awk_totals)" ]; then echo 'equal'; else echo 'NOT EQUAL'; ok=1; fi
state=$(on planner parent -c "SELECT state FROM fleet.run WHERE run_id = $run")
[ "$state" = succeeded ] || { echo "the run is $state"; ok=1; }

say 'The other branch: a region that has no file'
rc=0
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -v VERBOSITY=terse \
    -c "CALL fleet.execute_package('nightly', params => '{\"only\": \"atlantis\"}')" 2>&1 || rc=$?
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -P footer=off -c "
    SELECT task, item, server, state, sqlstate, left(message, 70) AS message FROM fleet.task_run
     WHERE run_id = (SELECT run_id FROM fleet.recent LIMIT 1) ORDER BY queued_at, task, item"
other=$(on planner parent -c "SELECT string_agg(task || '=' || state, ' ' ORDER BY task) FROM fleet.task_run
    WHERE run_id = (SELECT run_id FROM fleet.recent LIMIT 1) AND item = 0 AND task IN ('regions', 'collect', 'raise alarm')")
[ "$other" = 'collect=skipped raise alarm=succeeded regions=failed' ] || { echo "unexpected: $other"; ok=1; }

say 'The same work one after another on one server'
one=$(on planner parent -c "SELECT fleet.run_parent_package('one after another')")
state=$(on planner parent -c "SELECT fleet.wait_for_run($one)")
[ "$state" = succeeded ] || { echo "that run is $state"; ok=1; }
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -P footer=off -c "
    SELECT max(d) FILTER (WHERE run_id = $one) AS one_after_another, max(d) FILTER (WHERE run_id = $run) AS fleet,
           round(max(d) FILTER (WHERE run_id = $one) / max(d) FILTER (WHERE run_id = $run), 2) AS ratio
      FROM (SELECT run_id, round(extract(epoch FROM finished_at - started_at), 1) AS d FROM fleet.run) AS x"
echo "($(nproc) cores do the work of all five clusters here, and the time of the fleet has a crash in it)"

say 'The runs of this demo'
psql -X -h "$dir" -p "${port[parent]}" -U planner -d dw -P footer=off -c '
    SELECT run_id, package, state, duration, done, failed_task, message FROM fleet.recent'

say 'The same as pages, for a browser'
pages=$dir
write_page() # file query
{
    on planner parent -o "$pages/$1" -c "$2"
    printf '  %s, %s bytes\n' "$1" "$(wc -c <"$pages/$1")"
}
write_page report.html "SELECT fleet.report($run)"
failed=$(on planner parent -c "SELECT max(run_id) FROM fleet.run WHERE package = 'nightly' AND run_id > $run")
write_page failed.html "SELECT fleet.report($failed)"
write_page overview.html 'SELECT fleet.overview()'

say 'Where to look next'
cat <<TEXT
  SELECT * FROM fleet.gantt($run);                      -- when what ran where; also fleet.tree($run)
  SELECT * FROM fleet.job_log WHERE run_id = $run;        -- every step, wherever it ran
  SELECT * FROM fleet.log WHERE run_id = $run;            -- what the steps said, in order
  SELECT * FROM fleet.plan('nightly');                 -- what the next run will look like
  SELECT * FROM fleet.advise('nightly', servers => 8); -- would more servers help?
  doc/tour.md, demo/parent.sql (the packages of this demo), KEEP=1 make demo (leaves it running)
TEXT
if [ -n "${KEEP:-}" ]; then
    echo "  psql -h $dir -p ${port[parent]} -U planner dw"
    echo '  the pages, written anew as long as this runs:'
    echo "  while psql -XAtq -h $dir -p ${port[parent]} -U planner dw -c '\\o $pages/overview.html' -c 'SELECT fleet.overview()' -c '\\o $pages/report.html' -c 'SELECT fleet.report($run)'; do sleep 5; done"
fi
echo
echo "demo: $((SECONDS - begin)) s"
exit "$ok"
