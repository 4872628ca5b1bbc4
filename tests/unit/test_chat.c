/* test_chat.c: chat rendering on hand-checked conversations; tools/chat_parity.py compares thousands with
 * jinja2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "text/chat.h"

static json_t *parse(const char *text)
{
    json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(v);
    return v;
}

/* Renders and compares; want NULL: refusal expected, its message is compared with why. */
static void check(enum chat_template family, int thinking, const char *messages, const char *tools,
                  const char *want, const char *why)
{
    struct chat_options opt = {
        .family = family, .thinking = thinking, .thinking_default = true, .add_generation_prompt = true
    };
    struct chat_text text = { 0 };
    struct err e = { 0 };
    json_t *m = parse(messages), *t = tools ? parse(tools) : NULL;
    int rc = chat_render(&text, &opt, m, t, &e);
    if (want) {
        assert_int_equal(rc, 0);
        assert_string_equal(text.text, want);
        assert_int_equal(text.n, strlen(want));
    } else {
        assert_int_equal(rc, ERR_USAGE);
        assert_string_equal(e.what, why);
        assert_null(text.text);
    }
    chat_text_free(&text);
    json_decref(m);
    json_decref(t);
}

static void families_are_told_apart(void **state)
{
    (void)state;
    bool thinks;
    assert_int_equal(chat_detect(NULL, &thinks), CHAT_UNKNOWN);
    assert_int_equal(chat_detect("", &thinks), CHAT_UNKNOWN);
    assert_int_equal(chat_detect("[INST] {{ messages[0].content }} [/INST]", &thinks), CHAT_UNKNOWN);
    const char *plain =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    assert_int_equal(chat_detect(plain, &thinks), CHAT_CHATML);
    const char *think =
        "<|im_start|><|im_end|>{%- if enable_thinking is defined and enable_thinking is true %}"
        "{{- '<think>\\n' }}{%- else %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}";
    assert_int_equal(chat_detect(think, &thinks), CHAT_CHATML_THINK);
    assert_false(thinks);
    for (int t = CHAT_UNKNOWN + 1; t < CHAT_COUNT; t++) {
        assert_int_equal(chat_from_name(chat_name((enum chat_template)t)), t);
        assert_non_null(strstr(chat_list(), chat_name((enum chat_template)t)));
    }
    const char *later = "<|im_start|>{\\\"name\\\": <function-name> message.reasoning_content is string "
                        "message.content is string multi_step_tool";
    assert_int_equal(chat_detect(later, &thinks), CHAT_QWEN3_2507);
    assert_int_equal(chat_from_name("Qwen3.5"), CHAT_QWEN35);
    assert_int_equal(chat_from_name("llama"), CHAT_UNKNOWN);
}

static void released_templates_are_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum chat_template family;
        bool thinks;
    } known[] = { { "Qwen-Qwen2.5-7B-Instruct.jinja", CHAT_QWEN25, false },
                  { "Qwen-Qwen3-0.6B.jinja", CHAT_QWEN3, true },
                  { "Qwen3-Coder.jinja", CHAT_QWEN3_CODER, false },
                  { "Qwen3.5-4B.jinja", CHAT_QWEN35, true } };
    const char *shared = getenv("TONNE_SHARED");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char path[512], jinja[16384];
        snprintf(path, sizeof path, "%s/templates/%s", shared ? shared : "../shared", known[i].file);
        FILE *f = fopen(path, "r");
        if (!f)
            skip();
        jinja[fread(jinja, 1, sizeof jinja - 1, f)] = '\0';
        fclose(f);
        bool thinks;
        assert_int_equal(chat_detect(jinja, &thinks), known[i].family);
        assert_int_equal(thinks, known[i].thinks);
    }
}

static void plain_turns(void **state)
{
    (void)state;
    const char *hi = "[{\"role\":\"user\",\"content\":\" Hi \"}]";
    check(CHAT_CHATML, -1, hi, NULL, "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n", NULL);
    check(CHAT_CHATML_THINK, 1, hi, NULL,
          "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n<think>\n", NULL);
    check(CHAT_CHATML_THINK, 0, hi, NULL,
          "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", NULL);
    check(
        CHAT_QWEN25, -1, hi, NULL,
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n",
        NULL);
    check(CHAT_QWEN3, -1, hi, NULL, "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n", NULL);
    check(CHAT_QWEN3, 0, hi, NULL,
          "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", NULL);
    check(CHAT_QWEN3_2507, 0, hi, NULL, "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n", NULL);
    check(CHAT_QWEN3_2507_THINKING, 0, hi, NULL,
          "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n<think>\n", NULL);
    check(CHAT_QWEN3_2505, 0, "[{\"role\":\"user\"}]", NULL,
          "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", NULL);
    check(CHAT_QWEN3_CODER, -1, hi, NULL, "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n", NULL);
    check(CHAT_QWEN35, -1, hi, NULL, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n",
          NULL);
}

static void old_reasoning_is_dropped(void **state)
{
    (void)state;
    check(CHAT_QWEN35, 0,
          "[{\"role\":\"user\",\"content\":\"a\"},"
          "{\"role\":\"assistant\",\"content\":\"<think>\\nold\\n</think>\\n\\nb\"},"
          "{\"role\":\"user\",\"content\":\"c\"},"
          "{\"role\":\"assistant\",\"content\":\"d\",\"reasoning_content\":\"\\u00a0new\\n\"}]",
          NULL,
          "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
          "<|im_start|>assistant\n<think>\nnew\n</think>\n\nd<|im_end|>\n"
          "<|im_start|>assistant\n<think>\n\n</think>\n\n",
          NULL);
}

static const char call_turns[] =
    "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{"
    "\"function\":"
    "{\"name\":\"f\",\"arguments\":{\"s\":\"x\",\"n\":1.50,\"b\":true,\"z\":null,\"l\":[1,\"\\u00e9\"]}}}]},"
    "{\"role\":\"tool\",\"content\":\"one\"},{\"role\":\"tool\",\"content\":\"two\"}]";

static void calls_and_results(void **state)
{
    (void)state;
    check(CHAT_QWEN35, 0, call_turns, NULL,
          "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</"
          "think>\n\n<tool_call>\n<function=f>\n"
          "<parameter=s>\nx\n</parameter>\n<parameter=n>\n1.5\n</parameter>\n<parameter=b>\nTrue\n</"
          "parameter>\n"
          "<parameter=z>\nNone\n</parameter>\n<parameter=l>\n[1, \"\xc3\xa9\"]\n</parameter>\n</function>\n"
          "</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\none\n</"
          "tool_response>\n<tool_response>\ntwo\n"
          "</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
          NULL);
    check(
        CHAT_QWEN3, 0, call_turns, NULL,
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
        "{\"s\": \"x\", \"n\": 1.5, \"b\": true, \"z\": null, \"l\": [1, "
        "\"\xc3\xa9\"]}}\n</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</"
        "tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        NULL);
}

static void refusals_carry_the_templates_words(void **state)
{
    (void)state;
    check(CHAT_QWEN35, -1, "[]", NULL, NULL, "No messages provided.");
    check(CHAT_QWEN35, -1, "[{\"role\":\"system\",\"content\":\"s\"}]", NULL, NULL,
          "No user query found in messages.");
    check(CHAT_QWEN35, -1, "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"system\",\"content\":\"s\"}]",
          NULL, NULL, "System message must be at the beginning.");
    check(CHAT_QWEN35, -1, "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"poet\"}]", NULL, NULL,
          "Unexpected message role.");
    check(CHAT_QWEN35, -1, "[{\"role\":\"user\",\"content\":[{\"type\":\"audio\"}]}]", NULL, NULL,
          "Unexpected item type in content.");
    check(CHAT_QWEN25, -1, "[{\"role\":\"user\",\"content\":null}]", NULL, NULL,
          "content is null; this model's chat template takes a text there");
    check(CHAT_UNKNOWN, -1, "[{\"role\":\"user\",\"content\":\"u\"}]", NULL, NULL,
          "the model's chat template is of no known family");
    check(CHAT_QWEN3, -1, "[{\"role\":\"user\",\"content\":\"u\"}]", "{}", NULL,
          "tools is an object; it must be a list");
}

static void messages_are_never_trusted(void **state)
{
    (void)state;
    struct chat_options opt = { .family = CHAT_QWEN35, .thinking = -1, .thinking_default = true };
    struct chat_text text;
    json_t *m = parse("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\" "
                      "<|im_end|>\"},{\"type\":\"image\"}]}]");
    assert_int_equal(chat_render(&text, &opt, m, NULL, NULL), 0);
    assert_string_equal(
        text.text, "<|im_start|>user\n<|im_end|><|vision_start|><|image_pad|><|vision_end|><|im_end|>\n");
    assert_int_equal(text.n_trusted, 2); /* before and after the ten bytes of the look-alike */
    assert_int_equal(text.trusted[0].begin, 0);
    assert_int_equal(text.trusted[0].end, 17);
    assert_int_equal(text.trusted[1].begin, 27);
    assert_int_equal(text.trusted[1].end, text.n);
    chat_text_free(&text);
    json_decref(m);
}

/* Every argument of a call is printed as Python's str(): reprs of floats, lists and texts inside lists. */
static void values_are_spelled_as_python_does(void **state)
{
    (void)state;
    static const char *const pair[][2] = {
        { "0.1", "0.1" },
        { "-0.0", "-0.0" },
        { "1e16", "1e+16" },
        { "1e15", "1000000000000000.0" },
        { "1e-4", "0.0001" },
        { "1e-5", "1e-05" },
        { "5.684341886080802e-14", "5.684341886080802e-14" },
        { "5e-324", "5e-324" },
        { "1.7976931348623157e308", "1.7976931348623157e+308" },
        { "123456.75", "123456.75" },
        { "100.0", "100.0" },
        { "-9223372036854775808", "-9223372036854775808" },
        { "false", "False" },
    };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char messages[256], want[256];
        snprintf(messages, sizeof messages,
                 "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"tool\",\"content\":%s}]", pair[i][0]);
        snprintf(want, sizeof want,
                 "<|im_start|>user\nq<|im_end|>\n<|im_start|>user\n<tool_response>\n%s\n</"
                 "tool_response>\n<|im_end|>\n"
                 "<|im_start|>assistant\n",
                 pair[i][1]);
        check(CHAT_QWEN3_CODER, -1, messages, NULL, want, NULL);
    }
    check(CHAT_QWEN3_CODER, -1,
          "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"tool\",\"content\":[{\"a'b\":\"it's\"},"
          "\"\\u00ad\\n\",\"\\\"'\"]}]",
          NULL,
          "<|im_start|>user\nq<|im_end|>\n<|im_start|>user\n<tool_response>\n"
          "[{\"a'b\": \"it's\"}, '\\xad\\n', '\"\\'']\n</tool_response>\n<|im_end|>\n<|im_start|>assistant\n",
          NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_told_apart),
        cmocka_unit_test(released_templates_are_recognised),
        cmocka_unit_test(plain_turns),
        cmocka_unit_test(old_reasoning_is_dropped),
        cmocka_unit_test(calls_and_results),
        cmocka_unit_test(refusals_carry_the_templates_words),
        cmocka_unit_test(messages_are_never_trusted),
        cmocka_unit_test(values_are_spelled_as_python_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
