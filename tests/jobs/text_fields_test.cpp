#include "jobs/text_fields.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

TEST(FieldLine, PutsTheTextBehindTheName) {
  EXPECT_EQ(field_line("state", "done", 80), "state          done\n");
  EXPECT_EQ(field_line("", "more", 80), "               more\n");
}

TEST(FieldLine, BreaksWhatIsTooLong) {
  EXPECT_EQ(field_line("state", "done, and then some more words", 40),
            "state          done, and then some more\n"
            "               words\n");
}

TEST(FieldLine, GivesALongNameALineOfItsOwn) {
  EXPECT_EQ(field_line("checkpoint 123456789", "sealed", 40),
            "checkpoint 123456789\n"
            "               sealed\n");
}

TEST(Counted, CountsOneAsOne) {
  EXPECT_EQ(counted(0, "file"), "0 files");
  EXPECT_EQ(counted(1, "file"), "1 file");
}

TEST(BytesText, HasAUnitThatFits) {
  EXPECT_EQ(bytes_text(0), "0 bytes");
  EXPECT_EQ(bytes_text(1), "1 byte");
  EXPECT_EQ(bytes_text(1023), "1023 bytes");
  EXPECT_EQ(bytes_text(1024), "1.0 KiB");
  EXPECT_EQ(bytes_text(5'242'880), "5.0 MiB");
  EXPECT_EQ(bytes_text(UINT64_MAX), "16.0 EiB");
}

TEST(ShellWord, IsQuotedWhereItMustBe) {
  EXPECT_EQ(shell_word("runs/pi-20260131T235959Z"), "runs/pi-20260131T235959Z");
  EXPECT_EQ(shell_word("my run"), "'my run'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_word("-n"), "'./-n'");
  EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace regroup
