#include "jobs/option_set.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/error_of.hpp"

namespace regroup {
namespace {

// One variable of each kind.
struct Variables {
  bool flag = false;
  std::uint32_t small = 3;
  std::uint64_t large = 4;
  std::int64_t integer = -5;
  double real = 0.5;
  std::string text = "plain";
  std::vector<std::string> list;
  std::vector<std::string> files;

  OptionSet declare() {
    OptionSet set;
    set.add("flag", flag, "a flag");
    set.add("small", small, "a small number").at_least(1).at_most(100);
    set.add("large", large, "a large number");
    set.add("integer", integer, "an integer");
    set.add("real", real, "a real number").at_least(0);
    set.add("text", text, "a word").one_of({"plain", "fancy", "bold"});
    set.add("list", list, "any words");
    set.inputs("FILE", files, "files");
    return set;
  }
};

std::string error_of_setting(const std::string& name, const std::string& text) {
  Variables variables;
  OptionSet set = variables.declare();
  return error_of(set.find(name)->set(text));
}

TEST(OptionSet, SetsEveryKind) {
  Variables variables;
  OptionSet set = variables.declare();
  for (const auto& [name, text] :
       std::vector<std::pair<std::string, std::string>>{{"flag", "true"},
                                                        {"small", "100"},
                                                        {"large", "18446744073709551615"},
                                                        {"integer", "-9223372036854775808"},
                                                        {"real", "2.5e-3"},
                                                        {"text", "bold"},
                                                        {"list", "one"},
                                                        {"list", "two"}}) {
    EXPECT_EQ(error_of(set.find(name)->set(text)), "") << name;
  }
  EXPECT_TRUE(variables.flag);
  EXPECT_EQ(variables.small, 100u);
  EXPECT_EQ(variables.large, UINT64_MAX);
  EXPECT_EQ(variables.integer, INT64_MIN);
  EXPECT_EQ(variables.real, 2.5e-3);
  EXPECT_EQ(variables.text, "bold");
  EXPECT_THAT(variables.list, testing::ElementsAre("one", "two"));
  EXPECT_EQ(set.find("nothing"), nullptr);
}

TEST(OptionSet, RefusalsSayWhatIsTakenInstead) {
  EXPECT_EQ(error_of_setting("flag", "yes"), "--flag takes true or false, not 'yes'");
  EXPECT_EQ(error_of_setting("small", "0"), "--small takes a whole number from 1 to 100, not '0'");
  EXPECT_EQ(error_of_setting("small", "101"),
            "--small takes a whole number from 1 to 100, not '101'");
  EXPECT_EQ(error_of_setting("large", "-5"), "--large takes a whole number of 0 or more, not '-5'");
  EXPECT_EQ(error_of_setting("large", "1e6"),
            "--large takes a whole number of 0 or more, not '1e6'");
  EXPECT_EQ(error_of_setting("large", "18446744073709551616"),
            "--large takes a whole 64-bit number of 0 or more, not '18446744073709551616'");
  EXPECT_EQ(error_of_setting("integer", "x"), "--integer takes a whole number, not 'x'");
  EXPECT_EQ(error_of_setting("real", "-0.1"), "--real takes a number of 0 or more, not '-0.1'");
  EXPECT_EQ(error_of_setting("real", "nan"), "--real takes a number of 0 or more, not 'nan'");
  EXPECT_EQ(error_of_setting("text", "Bold"), "--text takes plain, fancy or bold, not 'Bold'");
}

TEST(OptionSet, WhatSurroundsANumberIsRefused) {
  for (const char* text : {"", " 1", "1 ", "1x", "+1", "0x10", "1,000", "--1"}) {
    EXPECT_NE(error_of_setting("small", text), "") << "'" << text << "'";
  }
}

TEST(OptionSet, ARefusedValueChangesNothing) {
  Variables variables;
  OptionSet set = variables.declare();
  EXPECT_NE(error_of(set.find("small")->set("200")), "");
  EXPECT_NE(error_of(set.find("real")->set("1.5.0")), "");
  EXPECT_EQ(variables.small, 3u);
  EXPECT_EQ(variables.real, 0.5);
}

TEST(OptionSet, TextIsWhatSetTakes) {
  Variables variables{.real = 0.1 + 0.2};
  OptionSet set = variables.declare();
  for (Option& option : set.options()) {
    if (option.is_list()) continue;
    const std::string text = option.text();
    EXPECT_EQ(error_of(option.set(text)), "") << option.name();
    EXPECT_EQ(option.text(), text);
  }
  EXPECT_EQ(variables.real, 0.1 + 0.2);
}

Buffer saved(Variables& variables) {
  Buffer bytes;
  Writer writer(bytes);
  variables.declare().save(writer);
  return bytes;
}

std::expected<void, std::string> load(Variables& variables, std::span<const std::byte> bytes) {
  Reader reader(bytes);
  OptionSet set = variables.declare();
  auto loaded = set.load(reader);
  if (loaded && !reader.complete()) return std::unexpected("bytes left");
  return loaded;
}

TEST(OptionSet, LoadsWhatWasSaved) {
  Variables there{.flag = true,
                  .small = 7,
                  .large = UINT64_MAX,
                  .integer = -1,
                  .real = 1.0 / 3,
                  .text = "fancy",
                  .list = {"a", "", "b c"},
                  .files = {"-x", "ü"}};
  const Buffer bytes = saved(there);
  Variables here{.list = {"gone"}};

  ASSERT_EQ(error_of(load(here, bytes.view())), "");

  EXPECT_TRUE(here.flag);
  EXPECT_EQ(here.small, 7u);
  EXPECT_EQ(here.large, UINT64_MAX);
  EXPECT_EQ(here.integer, -1);
  EXPECT_EQ(here.real, 1.0 / 3);
  EXPECT_EQ(here.text, "fancy");
  EXPECT_EQ(here.list, there.list);
  EXPECT_EQ(here.files, there.files);
}

TEST(OptionSet, LoadRefusesEveryPrefix) {
  Variables there{.list = {"a"}, .files = {"b"}};
  const Buffer bytes = saved(there);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    Variables here;
    EXPECT_EQ(error_of(load(here, bytes.view().first(length))), "the job's parameters are damaged")
        << length << " bytes";
  }
}

TEST(OptionSet, LoadRefusesAPlainOptionThatIsMissingOrDouble) {
  std::uint32_t number = 1;
  for (const std::uint32_t count : {0u, 2u}) {
    OptionSet set;
    set.add("number", number, "");
    Buffer bytes;
    Writer writer(bytes);
    writer.put(count);
    for (std::uint32_t i = 0; i < count; ++i) writer.put_string("5");
    Reader reader(bytes.view());
    EXPECT_EQ(error_of(set.load(reader)), "the job's parameters are damaged");
  }
}

TEST(OptionSet, NamesOfValuesForTheHelp) {
  Variables variables;
  OptionSet set = variables.declare();
  EXPECT_EQ(set.find("small")->value_name(), "N");
  EXPECT_EQ(set.find("real")->value_name(), "X");
  EXPECT_EQ(set.find("text")->value_name(), "WORD");
  EXPECT_EQ(set.find("list")->value_name(), "TEXT");
  EXPECT_EQ(set.find("small")->value_name("K").value_name(), "K");
}

}  // namespace
}  // namespace regroup
