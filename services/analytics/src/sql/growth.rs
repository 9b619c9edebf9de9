//! Bounds functions that make long values of short ones: doubled again and again, a text of a few bytes would fill memory within one
//! batch, or already while the plan is made, without the pool ever hearing of it.
//!
//! After types are settled, each such function of a plan is put into a [`Bounded`], which looks at its arguments before it is called.
//! To add one: a line in `GROWING`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary};

/// How large a result can be, in terms of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// As all arguments together.
    Sum,
    /// As all arguments, with the first between each two of them.
    Joined,
    /// As the first argument with each of its parts replaced by the longest of the others.
    Product,
}

/// The functions that grow.
const GROWING: [(&str, Growth); 13] = [
    (CONCATENATION, Growth::Sum),
    ("concat", Growth::Sum),
    ("concat_ws", Growth::Joined),
    ("overlay", Growth::Sum),
    ("replace", Growth::Product),
    ("regexp_replace", Growth::Product),
    ("string_to_array", Growth::Sum),
    ("array_to_string", Growth::Product),
    ("make_array", Growth::Sum),
    ("array_append", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_union", Growth::Sum),
];

/// The operator `||`, which is no function in DataFusion and becomes one here.
pub(super) const CONCATENATION: &str = "||";

/// Largest mean value of a batch.
const VALUE_BYTES_MAX: u64 = 64 << 10;
/// Most that one batch of values may take.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// A result would be too large.
#[derive(Debug, thiserror::Error)]
#[error("{function} makes values of more than {bytes_max} bytes")]
pub(super) struct TooLarge {
    pub(super) function: String,
    pub(super) bytes_max: u64,
}

/// A function that is called only if its result cannot be too large.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.inner.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.growth.bytes(&arguments.args, arguments.number_rows);
        let bytes_max = VALUE_BYTES_MAX.saturating_mul(arguments.number_rows.max(1) as u64).min(BATCH_BYTES_MAX);
        if bytes > bytes_max {
            let too_large = TooLarge { function: self.name().to_owned(), bytes_max };
            return Err(DataFusionError::External(Box::new(too_large)));
        }
        self.inner.invoke_with_args(arguments)
    }
}

impl Growth {
    /// At most so large is the result.
    fn bytes(self, arguments: &[ColumnarValue], rows: usize) -> u64 {
        let all = arguments.iter().map(|argument| size(argument, rows)).fold(0, u64::saturating_add);
        let first = arguments.first().map_or(0, |argument| size(argument, rows));
        match self {
            Growth::Sum => all,
            Growth::Joined => first.saturating_mul(arguments.len() as u64).saturating_add(all),
            Growth::Product => {
                // What is empty may be replaced too, in front of each character.
                let parts = first.saturating_add(rows as u64);
                let longest = arguments.iter().skip(1).map(longest_text).max().unwrap_or(0);
                parts.saturating_mul(longest.saturating_add(1))
            }
        }
    }
}

/// Bytes of an argument, repeated for each row where it is the same for all.
fn size(argument: &ColumnarValue, rows: usize) -> u64 {
    match argument {
        ColumnarValue::Scalar(value) => {
            let bytes = value.try_as_str().flatten().map_or_else(|| value.size(), str::len);
            (bytes as u64).saturating_mul(rows as u64)
        }
        ColumnarValue::Array(array) => match text_lengths(array) {
            Some(lengths) => lengths.sum(),
            None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()) as u64,
        },
    }
}

/// Bytes of the longest text of an argument; none: 0.
fn longest_text(argument: &ColumnarValue) -> u64 {
    match argument {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten().map_or(0, |text| text.len() as u64),
        ColumnarValue::Array(array) => text_lengths(array).and_then(Iterator::max).unwrap_or(0),
    }
}

fn text_lengths(array: &ArrayRef) -> Option<Box<dyn Iterator<Item = u64> + '_>> {
    match array.data_type() {
        DataType::Utf8 => Some(Box::new(array.as_string::<i32>().offsets().lengths().map(|bytes| bytes as u64))),
        DataType::LargeUtf8 => Some(Box::new(array.as_string::<i64>().offsets().lengths().map(|bytes| bytes as u64))),
        DataType::Utf8View => Some(Box::new(array.as_string_view().lengths().map(u64::from))),
        _ => None,
    }
}

/// `||` as a function: what DataFusion's operator computes for two arguments of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concatenation {
    signature: Signature,
}

impl ScalarUDFImpl for Concatenation {
    fn name(&self) -> &str {
        CONCATENATION
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names: Vec<String> = arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [one, other] => Operation::of(one, other)?.field.map(|field| field.data_type().clone()),
            _ => internal_err!("`||` takes two arguments"),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(CONCATENATION, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { arguments.number_rows };
        let columns: Result<Vec<ArrayRef>> = arguments.args.iter().map(|argument| argument.to_array(rows)).collect();
        let columns = columns?;
        let [one, other] = columns.as_slice() else { return internal_err!("`||` takes two arguments") };
        let operation = Operation::of(one.data_type(), other.data_type())?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(operation.schema, columns, &options)?;
        let result = operation.expression.evaluate(&batch)?;
        match result {
            ColumnarValue::Array(array) if scalars => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            result => Ok(result),
        }
    }
}

/// DataFusion's operator over two columns.
struct Operation {
    schema: Arc<Schema>,
    expression: Arc<dyn PhysicalExpr>,
    field: Result<FieldRef>,
}

impl Operation {
    fn of(one: &DataType, other: &DataType) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![Field::new("one", one.clone(), true), Field::new("other", other.clone(), true)]));
        let (left, right) = (Arc::new(Column::new("one", 0)), Arc::new(Column::new("other", 1)));
        let expression = binary(left, Operator::StringConcat, right, &schema)?;
        let field = expression.return_field(&schema);
        Ok(Self { schema, expression, field })
    }
}

/// Puts every growing function of a plan into its bounds.
#[derive(Debug)]
pub(super) struct BoundGrowth {
    concatenation: Arc<ScalarUDF>,
}

impl BoundGrowth {
    pub(super) fn new() -> Self {
        Self { concatenation: Arc::new(concatenation()) }
    }

    fn bounded(&self, expression: Expr) -> Transformed<Expr> {
        match expression {
            Expr::ScalarFunction(ScalarFunction { func, args }) => match bounded(&func) {
                Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: Arc::new(func), args })),
                None => Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
            },
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: self.concatenation.clone(), args: vec![*left, *right] }))
            }
            other => Transformed::no(other),
        }
    }
}

impl AnalyzerRule for BoundGrowth {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            node.map_expressions(|expression| expression.transform_up(|expression| Ok(self.bounded(expression))))
        })
        .data()
    }

    fn name(&self) -> &str {
        "bound_growth"
    }
}

/// The bounded `||`.
fn concatenation() -> ScalarUDF {
    let inner = ScalarUDF::new_from_impl(Concatenation { signature: Signature::any(2, Volatility::Immutable) });
    ScalarUDF::new_from_impl(Bounded { inner: Arc::new(inner), growth: Growth::Sum })
}

/// The function in its bounds, if it grows and is not in them.
fn bounded(function: &Arc<ScalarUDF>) -> Option<ScalarUDF> {
    let (_, growth) = GROWING.iter().find(|(name, _)| *name == function.name())?;
    (!function.inner().is::<Bounded>()).then(|| ScalarUDF::new_from_impl(Bounded { inner: function.clone(), growth: *growth }))
}

/// The functions with those that grow in their bounds, and `||` among them: plans name functions, so that a replica that reads a
/// plan finds what was planned.
pub(super) fn bound(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let in_bounds = functions.into_iter().map(|function| bounded(&function).map_or(function, Arc::new));
    in_bounds.chain([Arc::new(concatenation())]).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateDefaults;

    use super::*;

    fn text(length: usize) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::from("x".repeat(length)))
    }

    #[test]
    fn growth_is_never_less_than_what_comes_out() {
        let rows = 3;
        let column: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["aaaa", "a", "aa"]));
        let column = ColumnarValue::Array(column);
        assert_eq!(Growth::Sum.bytes(&[column.clone(), text(5)], rows), 7 + 15);
        // "a" by five others: 7 × 5, and at most two of them more per row where the pattern is empty.
        assert!(Growth::Product.bytes(&[column.clone(), text(1), text(5)], rows) >= 35);
        assert!(Growth::Joined.bytes(&[text(10), column.clone(), column], rows) >= 7 + 7 + 30);
    }

    #[test]
    fn every_growing_function_exists_in_datafusion() {
        let functions = bound(SessionStateDefaults::default_scalar_functions());
        for (name, _) in GROWING {
            let found = functions.iter().find(|function| function.name() == name);
            assert!(found.is_some_and(|function| function.inner().is::<Bounded>()), "{name}");
        }
    }
}
