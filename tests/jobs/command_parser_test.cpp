#include "jobs/command_parser.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/environment.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Outcome = CommandParser::Outcome;

// A command as `regroup run count` is one: options of a job and of the run.
struct Command {
  std::uint64_t top = 10;
  bool verbose = false;
  std::vector<std::string> tags;
  std::vector<std::string> files;
  std::uint32_t ranks = 1;
  std::string dir;
  std::string format = "text";
  std::string config;
  OptionSet job;
  OptionSet run;
  CommandParser parser{"tool run count", "count: counts."};

  Command() {
    job.add("top", top, "how many").value_name("K");
    job.add("verbose", verbose, "say more");
    job.add("tag", tags, "any number of tags");
    job.inputs("FILE", files, "what to count");
    run.add("ranks", ranks, "how many ranks").at_least(1);
    run.add("dir", dir, "where");
    run.add("format", format, "how").one_of({"text", "json"});
    run.add("config", config, "TOML file");
    parser.add("Options of the job", job, "count");
    parser.add("Options of the run", run);
    parser.add_short('n', "ranks");
    parser.ignore_tables({"count", "other"});
    parser.examples("Examples:\n  tool run count f\n");
  }
  Command(const Command&) = delete;

  std::string error(const std::vector<std::string>& arguments) {
    return error_of(parser.parse(arguments));
  }
};

std::string error(const std::vector<std::string>& arguments) {
  return Command().error(arguments);
}

TEST(CommandParser, TakesFlagsInEverySpelling) {
  Command command;
  ASSERT_EQ(command.error({"--top", "5", "-n", "4", "--dir=a=b", "--verbose", "file", "--format",
                           "json", "other"}),
            "");
  EXPECT_EQ(command.top, 5u);
  EXPECT_EQ(command.ranks, 4u);
  EXPECT_EQ(command.dir, "a=b");
  EXPECT_TRUE(command.verbose);
  EXPECT_EQ(command.format, "json");
  EXPECT_THAT(command.files, ElementsAre("file", "other"));

  Command glued;
  ASSERT_EQ(glued.error({"-n16", "--verbose=false"}), "");
  EXPECT_EQ(glued.ranks, 16u);
  EXPECT_FALSE(glued.verbose);
}

TEST(CommandParser, NothingGivenLeavesTheDefaults) {
  Command command;
  ASSERT_EQ(command.error({}), "");
  EXPECT_EQ(command.top, 10u);
  EXPECT_EQ(command.format, "text");
  EXPECT_THAT(command.files, IsEmpty());
}

TEST(CommandParser, InputsThatBeginWithADashGoBehindTwo) {
  Command command;
  ASSERT_EQ(command.error({"-", "--top", "3", "--", "-x", "--top", "--"}), "");
  EXPECT_THAT(command.files, ElementsAre("-", "-x", "--top", "--"));
  EXPECT_EQ(command.top, 3u);
}

TEST(CommandParser, ListsGrowAndOtherOptionsAreGivenOnce) {
  Command command;
  ASSERT_EQ(command.error({"--tag", "a", "--tag=b"}), "");
  EXPECT_THAT(command.tags, ElementsAre("a", "b"));
  EXPECT_EQ(error({"--top", "5", "--top", "6"}), "--top is given twice; give it once");
  EXPECT_EQ(error({"--verbose", "--verbose"}), "--verbose is given twice; give it once");
  EXPECT_EQ(error({"-n", "2", "--ranks=2"}), "--ranks is given twice; give it once");
}

TEST(CommandParser, ANegativeNumberIsAValue) {
  EXPECT_EQ(error({"--top", "-5"}), "--top takes a whole number of 0 or more, not '-5'");
  EXPECT_EQ(error({"-n", "-5"}), "--ranks takes a whole number of 1 or more, not '-5'");
}

TEST(CommandParser, AMissingValueIsNamed) {
  constexpr const char* kTop = "--top needs a value: --top K; see 'tool run count --help'";
  EXPECT_EQ(error({"--top"}), kTop);
  EXPECT_EQ(error({"--top", "--verbose"}), kTop);
  EXPECT_EQ(error({"--top", "-n", "4"}), kTop);
  EXPECT_EQ(error({"-n"}), "--ranks needs a value: --ranks N; see 'tool run count --help'");
  EXPECT_EQ(error({"--top="}), kTop);
}

TEST(CommandParser, UnknownOptionsAreNamedAndGuessedAt) {
  constexpr const char* kHint =
      "inputs that begin with '-' go behind '--'; see 'tool run count --help'";
  EXPECT_EQ(error({"--frobnicate=3"}), std::string("unknown option '--frobnicate'; ") + kHint);
  EXPECT_EQ(error({"--verbos"}),
            std::string("unknown option '--verbos'; did you mean --verbose? ") + kHint);
  EXPECT_EQ(error({"-x"}), std::string("unknown option '-x'; ") + kHint);
}

TEST(CommandParser, ChecksHowManyInputsThereAre) {
  const auto parse = [](const std::vector<std::string>& arguments) {
    std::vector<std::string> directories;
    OptionSet set;
    set.inputs("DIR", directories, "a directory").at_least(1).at_most(1);
    CommandParser parser("tool results", "Prints.");
    parser.add("Options", set);
    return error_of(parser.parse(arguments));
  };
  EXPECT_EQ(parse({"a"}), "");
  EXPECT_EQ(parse({}), "DIR is missing: tool results [options] DIR");
  EXPECT_EQ(parse({"a", "b"}), "too many arguments: tool results [options] DIR");

  OptionSet none;
  CommandParser parser("tool doctor", "Looks.");
  parser.add("Options", none);
  EXPECT_EQ(error_of(parser.parse({"x"})), "unexpected argument 'x'; see 'tool doctor --help'");
}

TEST(CommandParser, FlagsBeatTheEnvironmentWhichBeatsTheFile) {
  const TemporaryFolder folder;
  const std::string file =
      folder.write("options.toml",
                   "ranks = 3\nformat = 'json'\ndir = 'file'\n[count]\ntop = 3\n"
                   "tag = ['file', 'file2']\nverbose = true\n[other]\nodd = 1\n");
  const EnvironmentVariable config("REGROUP_CONFIG", file);
  const EnvironmentVariable top("REGROUP_TOP", "2");
  const EnvironmentVariable tag("REGROUP_TAG", "environment");
  const EnvironmentVariable ranks("REGROUP_RANKS", "2");
  Command command;

  ASSERT_EQ(command.error({"--ranks", "1"}), "");

  EXPECT_EQ(command.ranks, 1u);
  EXPECT_EQ(command.top, 2u);
  EXPECT_THAT(command.tags, ElementsAre("environment"));
  EXPECT_EQ(command.format, "json");
  EXPECT_EQ(command.dir, "file");
  EXPECT_TRUE(command.verbose);
}

TEST(CommandParser, AFlagNamesTheFileBeforeTheEnvironmentDoes) {
  const TemporaryFolder folder;
  const std::string one = folder.write("one.toml", "dir = 'one'");
  const std::string two = folder.write("two.toml", "dir = 'two'");
  const EnvironmentVariable config("REGROUP_CONFIG", one);
  Command command;
  ASSERT_EQ(command.error({"--config", two}), "");
  EXPECT_EQ(command.dir, "two");
}

TEST(CommandParser, ErrorsOfTheEnvironmentNameTheVariable) {
  const EnvironmentVariable top("REGROUP_TOP", "many");
  EXPECT_EQ(error({}), "REGROUP_TOP: --top takes a whole number of 0 or more, not 'many'");
  EXPECT_EQ(error({"--top", "1"}), "") << "what a flag gives is not looked up";
}

// The error of a configuration file with this content, without the file's name.
std::string config_error(const std::string& content) {
  const TemporaryFolder folder;
  const std::string file = folder.write("options.toml", content);
  const std::string text = error({"--config", file});
  EXPECT_THAT(text, testing::StartsWith(file + ":"));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  return text.substr(std::min(text.size(), file.size() + 1));
}

TEST(CommandParser, ErrorsOfTheFileNameTheLine) {
  constexpr const char* kHint = "; see 'tool run count --help'";
  EXPECT_EQ(config_error("\ntop = 3\n"), std::string("2: unknown key 'top'") + kHint);
  EXPECT_EQ(config_error("[count]\nranks = 3\n"), std::string("2: unknown key 'ranks'") + kHint);
  EXPECT_EQ(config_error("config = 'x'\n"), std::string("1: unknown key 'config'") + kHint);
  EXPECT_EQ(config_error("[cuont]\n"), std::string("1: unknown table [cuont]") + kHint);
  EXPECT_EQ(config_error("ranks = 0\n"), "1: --ranks takes a whole number of 1 or more, not '0'");
  EXPECT_EQ(config_error("ranks = [1, 2]\n"), "1: 'ranks' takes one value, not an array");
  EXPECT_THAT(config_error("ranks = 2020-01-01\n"), HasSubstr("1: 'ranks' takes a text"));
  EXPECT_THAT(config_error("[count]\ntag = [['a']]\n"), HasSubstr("2: 'tag' takes a text"));
  EXPECT_THAT(config_error("ranks = \n"), HasSubstr("1:9: not TOML: "));
}

TEST(CommandParser, AFileThatIsNoneIsNamed) {
  const TemporaryFolder folder;
  EXPECT_EQ(error({"--config", folder.path("none")}), folder.path("none") + ": no such file");
  EXPECT_EQ(error({"--config", folder.path("")}),
            folder.path("") + ": is no file; name a TOML file");
}

TEST(CommandParser, HelpIsWantedWhateverElseIsWrong) {
  const auto parse = [](const std::vector<std::string>& arguments) {
    Command command;
    return command.parser.parse(arguments);
  };
  EXPECT_EQ(parse({"--help"}), Outcome::kHelpWanted);
  EXPECT_EQ(parse({"--frob", "--top", "x", "-h"}), Outcome::kHelpWanted);
  EXPECT_EQ(parse({"--", "--help"}), Outcome::kRun) << "that is an input";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(CommandParser, HelpShowsEverythingWithinTheColumns) {
  for (const int columns : {60, 80, 120}) {
    const Command command;
    const std::string page = command.parser.help(columns);
    EXPECT_THAT(page, testing::StartsWith("Usage: tool run count [options] [FILE...]\n"));
    EXPECT_THAT(page, AllOf(HasSubstr("count: counts."), HasSubstr("\nOptions of the job:\n"),
                            HasSubstr("  --top K "), HasSubstr("how many (default 10)"),
                            HasSubstr("\n  --verbose  "), HasSubstr("\nOptions of the run:\n"),
                            HasSubstr("  -n, --ranks N "), HasSubstr("how: text or json"),
                            HasSubstr("-h, --help"), HasSubstr("tool run count f\n")));
    for (const std::string& line : lines_of(page)) EXPECT_LE(line.size(), columns) << line;
  }
}

TEST(CommandParserDeathTest, TwoOptionsOfOneNameAreNoProgram) {
  std::uint32_t ranks = 1;
  OptionSet job;
  job.add("ranks", ranks, "the job's own");
  Command command;
  EXPECT_DEATH(command.parser.add("More", job), "two options are called --ranks");
}

}  // namespace
}  // namespace regroup
