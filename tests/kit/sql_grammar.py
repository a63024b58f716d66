"""SQL statements by a grammar: what only reads, and what does more, nested in each other and spelled in many ways."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

Words = tuple[str, ...]
"""The tokens of a statement or of a part of one; what stands between them is up to the spelling."""

_READABLE = [
    "results",
    "plain",
    "other.twice_removed",
    "computed",
    "main.runs",
    "information_schema.tables",
    "sqlite_master",
]
_MADE = ["range|(|3|)", "done|(|'DONE'|)", "(|VALUES|(|1|)|)", "unnest|(|[1, 2]|)", "json_each|(|'{}'|)"]
_BAD_RELATIONS = [
    "'{bait}/bait.csv'",
    "'{bait}/*.parquet'",
    "'{results}'",
    "bait.csv",
    "bad_view",
    "other.bad_behind",
    "bad_own",
    "bad_computed",
    "bad_table|(|)",
    "checkpoint|(|)",
    "force_checkpoint|(|'results'|)",
    "query|(|'SELECT 1'|)",
    "query_table|(|'{bait}/bait.csv'|)",
    "duckdb_extensions|(|)",
    "enable_logging|(|)",
    "seq_scan|(|'results'|)",
    "arrow_scan|(|1|,|2|,|3|)",
]
_READERS = """
read_csv read_csv_auto read_text read_blob read_parquet parquet_scan parquet_metadata parquet_schema read_json
read_ndjson_objects read_duckdb glob sniff_csv parquet_file_metadata parquet_bloom_probe
"""
_PLACES = ["'{bait}/bait.csv'", "'{bait}/*'", "'{results}'", "'{results}.wal'", "['{bait}/bait.json']", "'/etc/passwd'"]
_READ_VALUES = ["1", "'a'", "upper|(|'a'|)", "double|(|2|)", "count|(|*|)", "now|(|)", "'a'|.|length|(|)", "-|2"]
_BAD_VALUES = [
    "nextval|(|'numbers'|)",
    "'numbers'|.|nextval|(|)",
    "json_serialize_plan|(|'SELECT 1'|)",
    "write_log|(|'x'|)",
    "bad_macro|(|'{results}'|)",
    "other.lower|(|'A'|)",
    "sign|(|1|)",
    "getenv|(|'HOME'|)",
    "setseed|(|0.5|)",
]
_DOING = [
    "CHECKPOINT",
    "FORCE|CHECKPOINT",
    "VACUUM",
    "ATTACH|'{bait}/bait.db'",
    "EXPORT|DATABASE|'{bait}/out'",
    "PRAGMA|force_checkpoint",
    "CALL|checkpoint|(|)",
    "SET|threads|=|2",
    "LOAD|parquet",
    "COPY|runs|FROM|'{bait}/bait.csv'",
    "COPY|results|TO|'{results}'",
    "DELETE|FROM|runs",
    "INSERT|INTO|runs|VALUES|(|9|,|'x'|,|now()|)",
    "UPDATE|runs|SET|epoch|=|9",
    "DROP|TABLE|results",
    "TRUNCATE|results",
]
_DO = [
    "COPY|(|{}|)|TO|'{bait}/new.csv'",
    "COPY|(|{}|)|TO|'{results}'|(|FORMAT|csv|,|USE_TMP_FILE|false|)",
    "COPY|(|{}|)|TO|'{results}.wal'|(|FORMAT|parquet|)",
    "CREATE|TABLE|t|AS|{}",
    "CREATE|TEMP|VIEW|t|AS|{}",
    "PREPARE|p|AS|{}",
    "{}|;|COPY|results|TO|'{bait}/new.csv'",
    "WITH|w|AS|(|DELETE|FROM|runs|RETURNING|*|)|{}",
    'WITH|"{bait}/bait.csv"|AS|(|{}|)|FROM|"{bait}/bait.csv"',
]
_SELECTS = [
    "SELECT|*|FROM|{r}",
    "FROM|{r}",
    "SELECT|{v}|FROM|{r}",
    "SELECT|{v}|AS|a",
    "VALUES|(|{v}|)",
    "SELECT|1|FROM|{r}|AS|x|,|{r}|AS|y",
    "SELECT|1|FROM|{r}|AS|x|LEFT|JOIN|{r}|AS|y|ON|TRUE",
    "SELECT|1|WHERE|EXISTS|(|FROM|{r}|)",
    "SELECT|1|LIMIT|(|SELECT|count(*)|FROM|{r}|)",
    "SELECT|list_transform|(|[1]|,|lambda x:|{v}|)",
    "SELECT|sum|(|1|)|OVER|(|ORDER BY|{v}|)",
    "SELECT|CASE|WHEN|TRUE|THEN|{v}|END|FROM|{r}",
]
_NESTS = [
    "WITH|w|AS|(|{}|)|FROM|w",
    "WITH|w|AS|MATERIALIZED|(|{}|)|SELECT|*|FROM|w|,|w|AS|again",
    "WITH|RECURSIVE|w|AS|(|SELECT|1|AS|a|UNION|ALL|SELECT|1|FROM|(|{}|)|,|w|WHERE|FALSE|)|FROM|w",
    "SELECT|*|FROM|(|{}|)|AS|s",
    "SELECT|(|SELECT|count(*)|FROM|(|{}|)|)",
    "SELECT|1|UNION|ALL|(|SELECT|1|FROM|(|{}|)|)",
    "DESCRIBE|{}",
    "SUMMARIZE|{}",
    "SELECT|*|FROM|(|DESCRIBE|{}|)",
    "SELECT|*|FROM|summary|(|(|{}|)|)",
    "(|{}|)",
]
_EXPLAINS = ["EXPLAIN", "EXPLAIN|ANALYZE", "EXPLAIN|(|FORMAT|json|)", "EXPLAIN|(|ANALYZE|,|FORMAT|json|)"]
_GAPS = [" ", "\n", "\t", "/**/", " /* ; */ ", " -- '\n", "  "]


def reading_sql() -> st.SearchStrategy[str]:
    """Statements that only read. Not each one is right: DuckDB may say what it misses."""
    return _spelled(_statements(_relations(bad=False), _of(_READ_VALUES)))


def any_sql() -> st.SearchStrategy[str]:
    """Statements of all kinds; `{bait}` and `{results}` are places of `tests.kit.bait`."""
    relations = _relations(bad=False) | _relations(bad=True)
    selects = _statements(relations, _of(_READ_VALUES) | _of(_BAD_VALUES))
    doing = _of(_DOING) | st.builds(_filled, st.sampled_from(_DO), selects)
    return _spelled(selects | selects | doing | st.builds(lambda how, what: (*how, *what), _of(_EXPLAINS), doing))


def _of(texts: list[str]) -> st.SearchStrategy[Words]:
    return st.sampled_from([tuple(text.split("|")) for text in texts])


def _relations(*, bad: bool) -> st.SearchStrategy[Words]:
    if not bad:
        return _of(_READABLE) | _of(_MADE)
    read = st.builds(
        lambda name, place: (name, "(", place, ")"), st.sampled_from(_READERS.split()), st.sampled_from(_PLACES)
    )
    return _of(_BAD_RELATIONS) | read


def _statements(relations: st.SearchStrategy[Words], values: st.SearchStrategy[Words]) -> st.SearchStrategy[Words]:
    plain = st.builds(_put_in, st.sampled_from(_SELECTS), relations, values, relations)
    nested = st.recursive(plain, lambda inner: st.builds(_filled, st.sampled_from(_NESTS), inner), max_leaves=4)
    return nested | st.builds(lambda how, what: (*how, *what), _of(_EXPLAINS), nested)


def _put_in(form: str, first: Words, value: Words, second: Words) -> Words:
    relations = iter((first, second))
    put: dict[str, Callable[[], Words]] = {"{r}": lambda: next(relations), "{v}": lambda: value}
    return tuple(word for part in form.split("|") for word in put.get(part, lambda part=part: (part,))())


def _filled(form: str, inner: Words) -> Words:
    return tuple(word for part in form.split("|") for word in (inner if part == "{}" else (part,)))


@st.composite
def _spelled(draw: st.DrawFn, statements: st.SearchStrategy[Words]) -> str:
    """The words with any gaps between them, in any case, names in quotes or not."""
    said = []
    for word in draw(statements):
        if word.replace("_", "").isalpha() and word.lower() == word and draw(st.booleans()):
            word = f'"{word}"'
        if "'" not in word and not word.startswith("lambda"):
            word = draw(st.sampled_from([word, word, word.upper(), word.title()]))
        said.append(word if "{" not in word.lower() else word.replace("{BAIT}", "{bait}").replace("{Bait}", "{bait}"))
        said.append(draw(st.sampled_from(_GAPS)))
    return "".join(said)
