#include "jobs/help_text.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

TEST(Wrapped, BreaksBetweenWords) {
  EXPECT_EQ(wrapped("one two three four", 9), "one two\nthree\nfour");
  EXPECT_EQ(wrapped("one two three four", 9, 2), "one two\n  three\n  four");
  EXPECT_EQ(wrapped("  many   spaces ", 80), "many spaces");
  EXPECT_EQ(wrapped("", 80), "");
}

TEST(Wrapped, AWordLongerThanTheLineStandsAlone) {
  EXPECT_EQ(wrapped("a incomprehensible b", 5), "a\nincomprehensible\nb");
}

TEST(HelpLine, DescriptionsStandInOneColumn) {
  EXPECT_EQ(help_line("--top K", "keep some", 80), "  --top K                 keep some\n");
  EXPECT_EQ(help_line("--top K", "keep only the most frequent words", 50),
            "  --top K                 keep only the most\n"
            "                          frequent words\n");
}

TEST(HelpLine, ALongNameHasALineOfItsOwn) {
  EXPECT_EQ(help_line("--a-name-of-such-length N", "described", 80),
            "  --a-name-of-such-length N\n"
            "                          described\n");
}

TEST(DidYouMean, GuessesOnlyWhatIsClose) {
  const std::vector<std::string> words = {"montecarlo", "wordcount", "run"};
  EXPECT_EQ(did_you_mean("wordcuont", words), "did you mean wordcount? ");
  EXPECT_EQ(did_you_mean("montecarl", words), "did you mean montecarlo? ");
  EXPECT_EQ(did_you_mean("rn", words), "");
  EXPECT_EQ(did_you_mean("heat", words), "");
  EXPECT_EQ(did_you_mean("", words), "");
}

}  // namespace
}  // namespace regroup
