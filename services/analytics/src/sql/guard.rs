//! What is refused before it is planned: everything that is not one query, functions that make much of little or tell of the machine,
//! and statements that are small to send and huge to plan.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{self, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName, Query, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::{Refusal, SqlError};
use super::functions;

/// Longest statement.
const STATEMENT_BYTES_MAX: usize = 64 << 10;
/// Most operators, keywords and brackets of a statement: each may nest the plan one level deeper, and plans are walked recursively.
const OPERATORS_MAX: usize = 2_000;
/// Most tables of a statement, with every use of a common table expression counted with all that is in it.
const TABLES_MAX: u64 = 100;
/// Most columns in CUBEs: each doubles the groups.
const CUBE_COLUMNS_MAX: usize = 8;
/// Most columns in ROLLUPs and GROUPING SETS: planning takes their square.
const GROUPING_COLUMNS_MAX: usize = 64;
/// Longest format of a time, which is written out for every row.
const FORMAT_BYTES_MAX: usize = 64;
/// Most columns of one node of a plan, with the fields of structs: types are walked again and again while a plan is optimized.
const FIELDS_MAX: usize = 100_000;

const TOO_MUCH: &str = "it makes more than fits in memory from almost nothing; join with a table or a list of VALUES instead";
const OF_FILES: &str = "it tells of files, and tables here are not files";

/// Functions for which it is worth saying why they are not available.
const DENIED_FUNCTIONS: [(&str, &str); 14] = [
    ("generate_series", TOO_MUCH),
    ("range", TOO_MUCH),
    ("repeat", TOO_MUCH),
    ("lpad", TOO_MUCH),
    ("rpad", TOO_MUCH),
    ("array_repeat", TOO_MUCH),
    ("list_repeat", TOO_MUCH),
    ("array_resize", TOO_MUCH),
    ("list_resize", TOO_MUCH),
    ("input_file_name", OF_FILES),
    ("file_row_index", OF_FILES),
    ("read_csv", OF_FILES),
    ("read_json", OF_FILES),
    ("read_parquet", OF_FILES),
];

/// Tables of `information_schema` that tell about the columns and nothing else.
const INFORMATION: [&str; 4] = ["tables", "columns", "schemata", "views"];

fn denied(function: &str) -> Option<&'static str> {
    DENIED_FUNCTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(function)).map(|(_, why)| *why)
}

/// Refuses texts that are too long or nested too deeply to be parsed and planned.
pub(super) fn check_text(text: &str) -> Result<(), SqlError> {
    if text.len() > STATEMENT_BYTES_MAX {
        return Err(SqlError::Invalid(format!("it has {} bytes and may have {STATEMENT_BYTES_MAX}", text.len())));
    }
    // What cannot be read is the parser's to explain.
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let nests = |token: &&Token| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword && word.quote_style.is_none(),
        Token::Whitespace(_) | Token::Comma | Token::Period | Token::Number(_, _) | Token::SingleQuotedString(_) | Token::EOF => false,
        _ => true,
    };
    let operators = tokens.iter().filter(nests).count();
    if operators > OPERATORS_MAX {
        return Err(SqlError::Invalid(format!(
            "it has {operators} operators, keywords and brackets and may have {OPERATORS_MAX}: use IN with a list in place of many ORs"
        )));
    }
    Ok(())
}

/// Refuses statements that are not queries, and what queries may not contain.
pub(super) fn check_statement(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Explain(explain) => check_statement(&explain.statement),
        Statement::Statement(statement) => check_standard(statement),
        Statement::CreateExternalTable(_) => Err(not_a_query("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(not_a_query("COPY")),
        Statement::Reset(_) => Err(not_a_query("RESET")),
    }
}

fn check_standard(statement: &ast::Statement) -> Result<(), SqlError> {
    match statement {
        ast::Statement::Query(_) | ast::Statement::ShowTables { .. } | ast::Statement::ShowColumns { .. } => {}
        ast::Statement::ExplainTable { .. } => {}
        ast::Statement::Explain { statement, .. } => return check_standard(statement),
        other => {
            let text = other.to_string();
            return Err(not_a_query(&text.split_whitespace().next().unwrap_or_default().to_uppercase()));
        }
    }
    match statement.visit(&mut Check::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

fn not_a_query(statement: &str) -> SqlError {
    SqlError::Refused { what: statement.to_owned(), why: "only queries are: SELECT, WITH, VALUES, EXPLAIN, DESCRIBE and SHOW TABLES" }
}

/// Walks a statement.
#[derive(Default)]
struct Check {
    /// Tables of the queries around the current place, innermost last.
    tables: Vec<u64>,
    /// Queries that are common table expressions, by their address, which is stable during the walk.
    named: HashMap<usize, String>,
    /// Tables in each common table expression.
    sizes: HashMap<String, u64>,
    cube_columns: usize,
    grouping_columns: usize,
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

fn last_name(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase()).unwrap_or_default()
}

fn refuse(what: String, why: &'static str) -> ControlFlow<SqlError> {
    ControlFlow::Break(SqlError::Refused { what, why })
}

impl Visitor for Check {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        for expression in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.named.insert(address(&expression.query), expression.alias.name.value.to_lowercase());
        }
        self.tables.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        let tables = self.tables.pop().unwrap_or_default();
        match self.named.remove(&address(query)) {
            Some(name) => {
                // The same name may be given again further in; the larger one counts.
                let size = self.sizes.entry(name).or_default();
                *size = tables.max(*size);
            }
            None => return self.add_tables(tables),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<SqlError> {
        let tables = self.sizes.get(&last_name(relation)).copied().unwrap_or(1).max(1);
        self.add_tables(tables)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SqlError> {
        let function = match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => last_name(name),
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => last_name(&function.name),
            _ => return ControlFlow::Continue(()),
        };
        let why = denied(&function).unwrap_or("there are no table functions; the tables are events and persons");
        refuse(function, why)
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<SqlError> {
        match expression {
            Expr::Function(function) => {
                let name = last_name(&function.name);
                match denied(&name) {
                    Some(why) => refuse(name, why),
                    None if ["to_char", "date_format"].contains(&name.as_str()) && !has_short_format(function) => {
                        refuse(name, "the format has to be a text of at most 64 bytes that stands in the statement")
                    }
                    None => ControlFlow::Continue(()),
                }
            }
            // Planning walks every field of a type, so this comes before planning.
            Expr::Struct { .. } | Expr::Dictionary(_) | Expr::Map(_) | Expr::Tuple(_) | Expr::Named { .. } => {
                refuse("a struct that is made in the statement".to_owned(), "each level of them may double the fields; name the columns")
            }
            Expr::Rollup(columns) | Expr::GroupingSets(columns) => {
                self.grouping_columns += columns.iter().map(Vec::len).sum::<usize>().max(columns.len());
                if self.grouping_columns > GROUPING_COLUMNS_MAX {
                    return refuse("ROLLUP or GROUPING SETS over so many columns".to_owned(), "64 are allowed");
                }
                ControlFlow::Continue(())
            }
            Expr::Cube(columns) => {
                self.cube_columns += columns.len();
                if self.cube_columns > CUBE_COLUMNS_MAX {
                    return refuse("CUBE over so many columns".to_owned(), "each column doubles the groups; 8 are allowed");
                }
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn has_short_format(function: &ast::Function) -> bool {
    let ast::FunctionArguments::List(list) = &function.args else { return false };
    match list.args.get(1) {
        Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(Expr::Value(value)))) => {
            matches!(&value.value, ast::Value::SingleQuotedString(text) if text.len() <= FORMAT_BYTES_MAX)
        }
        _ => false,
    }
}

impl Check {
    fn add_tables(&mut self, tables: u64) -> ControlFlow<SqlError> {
        match self.tables.last_mut() {
            Some(sum) => {
                *sum = sum.saturating_add(tables);
                if *sum > TABLES_MAX {
                    return ControlFlow::Break(SqlError::Invalid(format!(
                        "it reads more than {TABLES_MAX} tables, counting what stands in WITH as often as it is used"
                    )));
                }
                ControlFlow::Continue(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}

fn refusal(what: impl Into<String>, why: &'static str) -> DataFusionError {
    DataFusionError::External(Box::new(Refusal { what: what.into(), why }))
}

/// Takes the fields of a type from what is left; false when there is not enough.
fn take_fields(data_type: &DataType, left: &mut usize) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| take_fields(field.data_type(), left)),
        DataType::List(inner) | DataType::LargeList(inner) | DataType::ListView(inner) | DataType::LargeListView(inner) => {
            take_fields(inner.data_type(), left)
        }
        DataType::FixedSizeList(inner, _) | DataType::Map(inner, _) => take_fields(inner.data_type(), left),
        _ => true,
    }
}

/// Refuses what an expression may not contain, however it was written.
fn check_expression(expression: &logical_expr::Expr) -> Result<TreeNodeRecursion, DataFusionError> {
    let cast_to = match expression {
        logical_expr::Expr::ScalarFunction(function) if !functions::is_allowed(function.name()) => {
            return Err(refusal(function.name(), "it is not among the functions that are"));
        }
        logical_expr::Expr::Cast(cast) => cast.field.data_type(),
        logical_expr::Expr::TryCast(cast) => cast.field.data_type(),
        _ => return Ok(TreeNodeRecursion::Continue),
    };
    // Memory is taken for the length that is named before anything is looked at.
    match cast_to {
        DataType::FixedSizeList(..) | DataType::FixedSizeBinary(_) => Err(refusal("a list of fixed length", "leave out its length")),
        _ => Ok(TreeNodeRecursion::Continue),
    }
}

/// Refuses plans that read what is no business of a query's, and what would not be planned or computed in bounds.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<(), DataFusionError> {
    plan.apply_with_subqueries(|node| {
        let mut left = FIELDS_MAX;
        if !node.schema().fields().iter().all(|field| take_fields(field.data_type(), &mut left)) {
            return Err(refusal("a row of so many fields", "100,000 are allowed, counting those inside of others"));
        }
        node.apply_expressions(|expression| expression.apply(check_expression))?;
        if let LogicalPlan::TableScan(scan) = node
            && scan.table_name.schema() == Some("information_schema")
            && !INFORMATION.contains(&scan.table_name.table())
        {
            let what = format!("information_schema.{}", scan.table_name.table());
            return Err(refusal(what, "only its tables `tables` and `columns` are"));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn check(text: &str) -> Result<(), String> {
        check_text(text).map_err(|error| error.to_string())?;
        let mut statements = DFParser::parse_sql(text).map_err(|error| error.to_string())?;
        check_statement(&statements.pop_front().expect("a statement")).map_err(|error| error.to_string())
    }

    #[test]
    fn queries_pass_and_other_statements_are_refused_by_name() {
        for text in ["SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a", "VALUES (1)", "EXPLAIN SELECT 1", "DESCRIBE events", "SHOW TABLES"]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, name) in [
            ("DROP TABLE events", "DROP"),
            ("CREATE TABLE t AS SELECT 1", "CREATE"),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
            ("COPY events TO '/tmp/x'", "COPY"),
            ("INSERT INTO events VALUES (1)", "INSERT"),
            ("DELETE FROM events", "DELETE"),
            ("SET a = 1", "SET"),
            ("PREPARE p AS SELECT 1", "PREPARE"),
            ("EXPLAIN DROP TABLE events", "DROP"),
        ] {
            let refused = check(text).expect_err(text);
            assert!(refused.starts_with(&format!("{name} cannot be used here")), "{refused}");
        }
    }

    #[test]
    fn denied_functions_are_refused_wherever_they_stand() {
        for text in [
            "SELECT generate_series(1, 10)",
            "SELECT * FROM generate_series(1, 10)",
            "SELECT * FROM events WHERE person IN (SELECT unnest(range(1, 10)))",
            "SELECT max(REPEAT('x', 1000000000))",
            "WITH a AS (SELECT lpad('x', 1000000000) AS v) SELECT v FROM a",
        ] {
            assert!(check(text).expect_err(text).contains("from almost nothing"), "{text}");
        }
        assert!(check("SELECT * FROM read_csv('/etc/passwd')").expect_err("a file").contains("files"));
    }

    #[test]
    fn statements_that_grow_when_planned_are_refused() {
        let mut text = "WITH a0 AS (SELECT 1 AS v)".to_owned();
        for level in 1..40 {
            text.push_str(&format!(", a{level} AS (SELECT a.v FROM a{} AS a, a{} AS b)", level - 1, level - 1));
        }
        assert!(check(&format!("{text} SELECT * FROM a39")).expect_err("2^39 tables").contains("more than 100 tables"));
        let sums = vec!["1"; 5_000].join("+");
        assert!(check(&format!("SELECT {sums}")).expect_err("deep").contains("operators"));
        let list = vec!["12"; 10_000].join(",");
        assert_eq!(check(&format!("SELECT 1 WHERE 5 IN ({list})")), Ok(()));
        assert!(check("SELECT count(*) FROM events GROUP BY CUBE(a,b,c,d,e,f,g,h,i)").expect_err("512 groups").contains("doubles"));
        let long = format!("SELECT '{}'", "x".repeat(70_000));
        assert!(check(&long).expect_err("too long").contains("bytes"));
    }
}
