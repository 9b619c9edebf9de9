//! Templates that try to use up time, memory or stack end within limits, and soon. All run on the stack that a worker's thread has.

use super::*;

/// What a worker's thread has.
const STACK_BYTES: usize = 2 << 20;
/// Unoptimised, beside other tests.
const SOON: Duration = Duration::from_secs(20);

/// What becomes of a source on a worker's thread: its length, or why it is refused.
fn run(source: &str, partials: &[(&str, &str)]) -> Result<usize, String> {
    let (source, begun) = (source.to_owned(), Instant::now());
    let partials: Vec<(String, String)> = partials.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect();
    let work = move || {
        let values = json!({ "v": "x".repeat(1_000), "list": [1, 2, 3], "person": { "traits": { "a": "b" } } });
        let content_of = |name: &str, text: &str| content(&[(name, text)]);
        for (_, text) in &partials {
            content_of("content", text).outline().map_err(|faults| faults[0].refused.message.clone())?;
        }
        let template = content_of("text", &source);
        template.outline().map_err(|faults| faults[0].refused.message.clone())?;
        let partials: Vec<(&str, Content)> = partials.iter().map(|(id, text)| (id.as_str(), content_of("content", text))).collect();
        let rendered = loaded(ChannelKind::Sms, template, &partials).render(&values, None);
        rendered.map(|rendered| rendered.parts["text"].len()).map_err(|faults| faults[0].message.clone())
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread");
    let found = thread.join().expect("it ends by itself");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    found
}

#[test]
fn bombs_end_within_limits() {
    let nested = "{% for a in range(1000) %}".repeat(3) + "x" + &"{% endfor %}".repeat(3);
    for source in [
        "{% for a in range(100000000) %}x{% endfor %}",
        "{% for a in range(99999) %}{{ v }}{% endfor %}",
        nested.as_str(),
        "{{ 'x' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{% set a = v %}{% for i in range(40) %}{% set a = a ~ a %}{% endfor %}{{ a }}{{ range(90000)|join(v) }}",
        "{% set a = [v] %}{% for i in range(9000) %}{% set a = a + a + list %}{{ a|length }}{{ a }}{% endfor %}",
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
        "{% for i in range(90000) %}{{ v|upper|lower|title|reverse|replace('x', v) }}{% endfor %}",
        "{{ v|replace('', v)|replace('', v)|replace('', v) }}",
        "{{ range(99999)|list|batch(1)|list|map('string')|join|indent(1000) }}{{ range(99999)|sort|list|tojson(1000) }}",
        "{{ 10 ** 1000000 }}{{ '%1000000000d' | format(1) }}",
        "{{ '%s' | format(v) * 100000 }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in [1] recursive %}{{ loop([a, a]) }}{% endfor %}",
        "{{ range(99999)|map('replace', '1', v)|list|length }}{% for a in range(99999) %}{{ loop.cycle(v, v) }}{% endfor %}",
    ] {
        let refused = run(source, &[]).expect_err(source);
        assert!(!refused.is_empty() && refused.len() < 500, "{refused}");
    }
}

#[test]
fn output_ends_at_its_limit() {
    let refused = run("{% for a in range(2000) %}{{ v }}{% endfor %}", &[]).expect_err("it is too long");
    assert!(refused.contains("campaign.template.output_bytes_max"), "{refused}");
    assert_eq!(run("{% for a in range(1000) %}{{ v }}{% endfor %}", &[]), Ok(1_000_000));
}

#[test]
fn values_within_values_do_not_use_up_the_stack() {
    let straight = "{% set a = 1 %}".to_owned() + &"{% set a = [a] %}".repeat(20_000);
    let steep = "{% set a = 1 %}".to_owned() + &format!("{{% set a = {}a{} %}}", "[".repeat(20), "]".repeat(20)).repeat(3_000);
    let uses =
        ["", "{{ a }}", "{{ a|tojson|length }}", "{{ a == [a] }}", "{{ a < [a] }}", "{{ [a, [a]]|unique|list|length }}", "{{ {a: 1} }}"];
    for source in [straight.as_str(), steep.as_str()] {
        for used in uses {
            let _ = run(&format!("{source}{used}"), &[]);
        }
    }
    for made in ["[a]", "{'b': a}", "[a]|batch(1)|list", "dict(b=a)", "[a]|zip([a])|list", "[a]|groupby(0)|list"] {
        for turns in [2_000, 8_000, 90_000] {
            for used in uses {
                let last = format!("{{% if loop.last %}}{used}{{% endif %}}");
                let source = format!("{{% set a = [1] %}}{{% for i in range({turns}) %}}{{% set a = {made} %}}{last}{{% endfor %}}");
                let _ = run(&source, &[]);
            }
        }
    }
}

#[test]
fn what_is_as_deep_as_is_allowed_compiles_and_runs_on_a_workers_stack() {
    let sum = format!("{{{{ 1{} }}}}", "+1".repeat(199));
    let nots = format!("{{{{ {}a }}}}", "not ".repeat(199));
    let chain = format!("{{{{ v{} }}}}", "|upper".repeat(199));
    let path = format!("{{{{ v{} }}}}", ".a".repeat(199));
    let ifs = format!("{{{{ {}1 }}}}", "1 if a else ".repeat(99));
    let brackets = format!("{{{{ {}{} }}}}", "[".repeat(20), "]".repeat(20));
    let deep_brackets = format!("{{{{ {}{}{} }}}}", "(not ".repeat(20), "not ".repeat(150), ")".repeat(20)).replace("not )", "a)");
    let elifs = format!("{{% if a %}}{}x{{% endif %}}", "{% elif b %}".repeat(29));
    let blocks = "{% if v %}".repeat(30) + &sum + &"{% endif %}".repeat(30);
    let loops = "{% for a in [[[list]]] %}".repeat(30) + &sum + &"{% endfor %}".repeat(30);
    let sets = "{% filter upper %}".repeat(30) + &chain + &"{% endfilter %}".repeat(30);
    for source in [sum, nots, chain, path, ifs, brackets, deep_brackets, elifs, blocks, loops, sets] {
        let found = run(&source, &[]);
        assert!(found.is_ok(), "{}… {found:?}", &source[..40]);
    }
}

#[test]
fn partials_within_partials_are_bounded() {
    let wide = "{% include 'b' %}".repeat(1_000);
    let refused = run(&wide, &[("b", &"{% include 'c' %}".repeat(1_000)), ("c", &"{% include 'd' %}".repeat(1_000)), ("d", "x")]);
    assert!(refused.is_err(), "{refused:?}");
    // A cycle, which is refused when it is written, would end too.
    let refused = run("{% include 'a' %}", &[("a", "x{% include 'b' %}"), ("b", "{% include 'a' %}")]);
    assert!(refused.expect_err("it never ends").contains("recursion limit"));
    let deep = "{% if v %}".repeat(29) + "{% include 'p' %}" + &"{% endif %}".repeat(29);
    let partials: Vec<(String, String)> = (1..=5).map(|at| (format!("p{at}"), deep.replace("'p'", &format!("'p{}'", at + 1)))).collect();
    let mut partials: Vec<(&str, &str)> = partials.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    partials.truncate(4);
    partials.push(("p5", "end"));
    assert_eq!(run(&deep.replace("'p'", "'p1'"), &partials), Ok(3));
}

#[test]
fn sources_of_any_bytes_are_refused_or_run() {
    for source in ["{{", "{%", "{{ }}", "{% %}", "{% for %}", "{% endfor %}", "{{ a..b }}", "{{ 'a\\", "{% include %}", "{% if %}"] {
        assert!(run(source, &[]).is_err(), "{source}");
    }
    let digits = format!("{{{{ {} }}}}", "9".repeat(10_000));
    assert!(run(&digits, &[]).is_err());
    assert_eq!(run("{{ -9223372036854775808 - 1 }}", &[]), Ok(20));
}
