#include "runtime/host/result_text.hpp"

#include <cmath>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "runtime/host/result_file_writer.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using namespace std::string_view_literals;
using test::ScratchDirectory;
using testing::HasSubstr;

// A result in a directory of its own, open for reading.
class ResultText : public testing::Test {
 protected:
  void write_words(const std::vector<std::string_view>& words) {
    std::vector<std::uint64_t> counts;
    for (std::size_t i = 0; i < words.size(); ++i) counts.push_back(words.size() - i);
    auto writer = ResultFileWriter::create(scratch_.path()).value();
    ASSERT_TRUE(writer.scalar("total", std::uint64_t{words.size()}));
    ASSERT_TRUE(writer.columns({{"count", ColumnType::kUint64}, {"word", ColumnType::kText}}));
    ASSERT_TRUE(writer.append_rows({std::span(counts), std::span(words)}));
    ASSERT_TRUE(writer.finish());
  }

  void write_numbers(const std::vector<double>& numbers) {
    auto writer = ResultFileWriter::create(scratch_.path()).value();
    ASSERT_TRUE(writer.columns({{"x", ColumnType::kFloat64}}));
    ASSERT_TRUE(writer.append_rows({std::span(numbers)}));
    ASSERT_TRUE(writer.finish());
  }

  std::string text(TextFormat format, std::uint64_t rows_max = kAllRows) {
    const auto path = scratch_.path() / "text";
    FileDescriptor out(FileSystem::real(),
                       ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666));
    const auto reader = ResultFileReader::open(scratch_.path()).value();
    const auto done = write_text(reader, format, out.get(), rows_max);
    EXPECT_TRUE(done) << done.error();
    return test::contents_of(path);
  }

  ScratchDirectory scratch_;
};

TEST(TextFormat, HasNames) {
  EXPECT_EQ(text_format_named("tsv"), TextFormat::kTsv);
  EXPECT_EQ(text_format_named("csv"), TextFormat::kCsv);
  EXPECT_EQ(text_format_named("jsonl"), TextFormat::kJsonl);
  EXPECT_EQ(text_format_named("json"), std::nullopt);
}

TEST_F(ResultText, TsvIsTheValuesAsTheyAre) {
  write_words({"the", "a\"b,c", "\xff"});

  EXPECT_EQ(text(TextFormat::kTsv), "3\tthe\n2\ta\"b,c\n1\t\xff\n");
}

TEST_F(ResultText, CsvQuotesPerRfc4180) {
  write_words({"plain", "a,b", "say \"hi\"", "two\nlines", "cr\r", ""});

  EXPECT_EQ(text(TextFormat::kCsv),
            "count,word\n6,plain\n5,\"a,b\"\n4,\"say "
            "\"\"hi\"\"\"\n3,\"two\nlines\"\n2,\"cr\r\"\n1,\"\"\n");
}

TEST_F(ResultText, JsonLinesEscapeAndReplaceInvalidUtf8) {
  write_words({"plain", "q\"b\\s\tt\n", "nul\0!"sv, "\xc3\xa9t\xc3\xa9", "bad\xff!"});

  const std::string lines = text(TextFormat::kJsonl);

  EXPECT_EQ(lines,
            "{\"count\":5,\"word\":\"plain\"}\n"
            "{\"count\":4,\"word\":\"q\\\"b\\\\s\\tt\\n\"}\n"
            "{\"count\":3,\"word\":\"nul\\u0000!\"}\n"
            "{\"count\":2,\"word\":\"\xc3\xa9t\xc3\xa9\"}\n"
            "{\"count\":1,\"word\":\"bad\xef\xbf\xbd!\"}\n");
}

TEST_F(ResultText, NumbersReadBackAsTheSameBits) {
  write_numbers({0.1, -0.0, 1e300, 5e-324, 3, NAN, -NAN, INFINITY, -INFINITY});

  EXPECT_EQ(text(TextFormat::kTsv), "0.1\n-0\n1e+300\n5e-324\n3\nnan\nnan\ninf\n-inf\n");
  EXPECT_THAT(text(TextFormat::kJsonl),
              HasSubstr("{\"x\":\"nan\"}\n{\"x\":\"nan\"}\n{\"x\":\"inf\"}"));
}

TEST_F(ResultText, TheNumberOfRowsCanBeLimited) {
  write_words({"a", "b", "c"});

  EXPECT_EQ(text(TextFormat::kTsv, 2), "3\ta\n2\tb\n");
  EXPECT_EQ(text(TextFormat::kTsv, 0), "");
  EXPECT_EQ(text(TextFormat::kTsv, 10), "3\ta\n2\tb\n1\tc\n");
}

TEST_F(ResultText, ScalarsArePrintedWhenThereIsNoTable) {
  {
    auto writer = ResultFileWriter::create(scratch_.path()).value();
    ASSERT_TRUE(writer.scalar("pi", 3.5));
    ASSERT_TRUE(writer.scalar("hits", std::uint64_t{UINT64_MAX}));
    ASSERT_TRUE(writer.scalar("note", "a, \"b\""));
    ASSERT_TRUE(writer.finish());
  }

  EXPECT_EQ(text(TextFormat::kTsv), "pi\t3.5\nhits\t18446744073709551615\nnote\ta, \"b\"\n");
  EXPECT_EQ(text(TextFormat::kCsv),
            "name,value\npi,3.5\nhits,18446744073709551615\nnote,\"a, \"\"b\"\"\"\n");
  EXPECT_EQ(text(TextFormat::kJsonl),
            "{\"pi\":3.5,\"hits\":18446744073709551615,\"note\":\"a, \\\"b\\\"\"}\n");
}

TEST_F(ResultText, ManyRowsCrossTheBlocks) {
  write_numbers(std::vector<double>(100'000, 0.25));

  const std::string lines = text(TextFormat::kTsv);

  EXPECT_EQ(lines.size(), 100'000 * "0.25\n"sv.size());
  EXPECT_EQ(lines.substr(lines.size() - 10), "0.25\n0.25\n");
}

TEST_F(ResultText, AClosedPipeIsAQuietSuccess) {
  write_numbers(std::vector<double>(1'000'000, 0.25));
  const auto reader = ResultFileReader::open(scratch_.path()).value();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  ASSERT_EQ(::signal(SIGPIPE, SIG_DFL), SIG_DFL) << "the default would end this test program";

  const auto done = write_text(reader, TextFormat::kTsv, ends[1]);

  ::close(ends[1]);
  EXPECT_TRUE(done);
  sigset_t pending;
  ::sigpending(&pending);
  EXPECT_EQ(::sigismember(&pending, SIGPIPE), 0);
}

TEST_F(ResultText, AFullDeviceIsAnError) {
  write_numbers(std::vector<double>(10, 0.25));
  const auto reader = ResultFileReader::open(scratch_.path()).value();
  FileDescriptor full(FileSystem::real(), ::open("/dev/full", O_WRONLY));
  if (!full.is_open()) GTEST_SKIP() << "there is no /dev/full here";

  const auto done = write_text(reader, TextFormat::kTsv, full.get());

  ASSERT_FALSE(done);
  EXPECT_THAT(done.error(), HasSubstr("No space left on device"));
}

}  // namespace
}  // namespace regroup
