#include "jobs/codec.hpp"

#include <array>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

namespace regroup {
namespace {

struct Sums {
  double sum = 0;
  std::uint32_t count = 0;
  friend bool operator==(const Sums&, const Sums&) = default;
};

// A result with bytes of its own making.
struct Histogram {
  std::map<std::string, std::uint32_t> counts;

  void encode(Writer& writer) const {
    writer.put(static_cast<std::uint32_t>(counts.size()));
    for (const auto& [name, count] : counts) {
      writer.put_string(name);
      writer.put(count);
    }
  }
  static Histogram decode(Reader& reader) {
    Histogram histogram;
    const std::size_t size = reader.get_count(8);
    for (std::size_t i = 0; i < size; ++i) {
      const std::string name(reader.get_string());
      histogram.counts[name] = reader.get<std::uint32_t>();
    }
    return histogram;
  }
  friend bool operator==(const Histogram&, const Histogram&) = default;
};

template <class T>
T there_and_back(const T& value) {
  Buffer bytes;
  encode_result(value, bytes);
  return decode_result<T>(bytes.view());
}

TEST(Codec, PlainValuesComeBack) {
  EXPECT_EQ(there_and_back(std::uint64_t{1} << 63), std::uint64_t{1} << 63);
  EXPECT_EQ(there_and_back(-0.1), -0.1);
  EXPECT_EQ(there_and_back(Sums{0.1 + 0.2, 7}), (Sums{0.1 + 0.2, 7}));
  EXPECT_EQ(there_and_back(std::array<int, 3>{1, -2, 3}), (std::array<int, 3>{1, -2, 3}));
}

TEST(Codec, SequencesComeBack) {
  EXPECT_EQ(there_and_back(std::string()), "");
  EXPECT_EQ(there_and_back(std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(there_and_back(std::vector<Sums>{}), std::vector<Sums>{});
  EXPECT_EQ(there_and_back(std::vector<Sums>{{1, 2}, {3, 4}}), (std::vector<Sums>{{1, 2}, {3, 4}}));
}

TEST(Codec, OwnEncodingsComeBack) {
  const Histogram histogram{{{"", 0}, {"a", 1}, {"long name", 1u << 31}}};
  EXPECT_EQ(there_and_back(histogram), histogram);
}

TEST(Codec, EncodingAppends) {
  Buffer bytes;
  encode_result(std::string("ab"), bytes);
  encode_result(std::uint32_t{1}, bytes);
  EXPECT_EQ(bytes.size(), 6u);
}

// What only points at a value must not travel.
static_assert(JobResult<Sums> && JobResult<std::string> && JobResult<std::vector<double>> &&
              JobResult<Histogram>);
static_assert(!JobResult<const char*> && !JobResult<std::string_view> &&
              !JobResult<std::span<const int>>);
static_assert(!JobResult<std::vector<std::string>> && !JobResult<std::vector<bool>>);

template <class T>
std::optional<T> decoded_from(std::initializer_list<unsigned char> bytes) {
  return try_decode_result<T>(std::as_bytes(std::span(bytes.begin(), bytes.size())));
}

TEST(Codec, BytesThatAreNoValueGiveNone) {
  EXPECT_EQ(decoded_from<std::uint16_t>({1, 2}), 0x0201);
  EXPECT_EQ(decoded_from<std::uint16_t>({1, 2, 3}), std::nullopt);
  EXPECT_EQ(decoded_from<std::vector<std::uint16_t>>({1, 2, 3}), std::nullopt);
  EXPECT_EQ(decoded_from<Histogram>({0, 0, 0, 0}), Histogram{});
  EXPECT_EQ(decoded_from<Histogram>({0, 0, 0}), std::nullopt);
  EXPECT_EQ(decoded_from<Histogram>({0, 0, 0, 0, 9}), std::nullopt);
}

TEST(ResultCodec, ValuesLieOneBehindTheOther) {
  Buffer bytes;
  Writer writer(bytes);
  ResultCodec<double>{}.encode(writer, -0.0);
  ResultCodec<std::string>{}.encode(writer, "ab");
  ResultCodec<Histogram>{}.encode(writer, {{{"a", 1}}});
  ResultCodec<std::string>{}.encode(writer, "");
  EXPECT_EQ(bytes.size(), 8u + 10 + (8 + 13) + 8);

  Reader reader(bytes.view());
  EXPECT_TRUE(std::signbit(ResultCodec<double>{}.decode(reader).value()));
  EXPECT_EQ(ResultCodec<std::string>{}.decode(reader), "ab");
  EXPECT_EQ(ResultCodec<Histogram>{}.decode(reader), (Histogram{{{"a", 1}}}));
  EXPECT_EQ(ResultCodec<std::string>{}.decode(reader), "");
  EXPECT_TRUE(reader.complete());
  EXPECT_EQ(ResultCodec<std::string>{}.decode(reader), std::nullopt);
}

TEST(CodecDeathTest, BytesOfAnotherSizeEndTheRank) {
  const std::byte bytes[9] = {};
  EXPECT_DEATH((void)decode_result<std::uint64_t>(bytes), "a result of another size than its type");
  EXPECT_DEATH((void)decode_result<std::vector<std::uint64_t>>(bytes),
               "a result of another size than its type");
  EXPECT_DEATH((void)decode_result<Histogram>(bytes), "decodes otherwise than it was encoded");
}

}  // namespace
}  // namespace regroup
