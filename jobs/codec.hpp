// How a shard's result becomes bytes. Types without padding travel as they lie in memory; strings
// and vectors of such types as their elements; any other type brings
//   void encode(Writer&) const;  static T decode(Reader&);
#pragma once

#include <cstring>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// Travels as the bytes it has in memory, so nothing that only points at them: a string_view or a
// pointer would be one rank's address on another.
template <class T>
concept PlainResult = std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> &&
                      !std::is_pointer_v<T> &&
                      !std::ranges::view<T>;

template <class T>
concept EncodedResult = requires(const T& value, Writer& writer, Reader& reader) {
  value.encode(writer);
  { T::decode(reader) } -> std::same_as<T>;
};

namespace codec_detail {
template <class T>
inline constexpr bool kIsSequence = false;
template <>
inline constexpr bool kIsSequence<std::string> = true;
template <PlainResult T>
inline constexpr bool kIsSequence<std::vector<T>> = !std::same_as<T, bool>;  // has no data()
}  // namespace codec_detail

// A std::string, or a std::vector of plain results.
template <class T>
concept SequenceResult = codec_detail::kIsSequence<T>;

template <class T>
concept JobResult = PlainResult<T> || EncodedResult<T> || SequenceResult<T>;

template <JobResult T>
void encode_result(const T& value, Buffer& out) {
  Writer writer(out);
  if constexpr (EncodedResult<T>) {
    value.encode(writer);
  } else if constexpr (PlainResult<T>) {
    writer.put_raw(std::as_bytes(std::span(&value, 1)));
  } else {
    writer.put_raw(std::as_bytes(std::span(value.data(), value.size())));
  }
}

// Nothing if the bytes are no value of the type; may throw what its own decode() throws.
template <JobResult T>
std::optional<T> try_decode_result(std::span<const std::byte> bytes) {
  if constexpr (EncodedResult<T>) {
    Reader reader(bytes);
    std::optional<T> value(T::decode(reader));
    if (!reader.complete()) value.reset();
    return value;
  } else if constexpr (PlainResult<T>) {
    if (bytes.size() != sizeof(T)) return std::nullopt;
    T value{};
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  } else {
    using Element = typename T::value_type;
    if (bytes.size() % sizeof(Element) != 0) return std::nullopt;
    T value(bytes.size() / sizeof(Element), Element{});
    if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
    return value;
  }
}

// The bytes are what encode_result made of some value, on a rank of this run.
template <JobResult T>
T decode_result(std::span<const std::byte> bytes) {
  std::optional<T> value = try_decode_result<T>(bytes);
  REGROUP_CHECK(value.has_value(), EncodedResult<T>
                                       ? "a result decodes otherwise than it was encoded"
                                       : "a result of another size than its type");
  return std::move(*value);
}

// How values lie one behind another: plain ones as they are, others with their length (64 bits,
// since merged values outgrow 32) before them. The Codec of an OrderedMerge.
template <JobResult T>
struct ResultCodec {
  static constexpr bool kFixedSize = PlainResult<T> && !EncodedResult<T>;

  void encode(Writer& writer, const T& value) const {
    Buffer& out = writer.buffer();
    const std::size_t length_at = out.size();
    if constexpr (!kFixedSize) writer.put(std::uint64_t{0});
    const std::size_t value_at = out.size();
    encode_result(value, out);
    if constexpr (!kFixedSize) {
      const std::uint64_t length = out.size() - value_at;
      std::memcpy(out.data() + length_at, &length, sizeof length);
    }
  }
  std::optional<T> decode(Reader& reader) const {
    const std::uint64_t length = kFixedSize ? sizeof(T) : reader.get<std::uint64_t>();
    const auto bytes = reader.get_raw(length);
    if (reader.failed()) return std::nullopt;
    return try_decode_result<T>(bytes);
  }
};

}  // namespace regroup
