// How calls of the registry travel: byte for byte as docs/wire-format.md has it, bounded, and
// nothing that is malformed is believed.
#include "runtime/protocol/registry_call.hpp"

#include <string>

#include <gtest/gtest.h>

#include "tests/protocol/damaged_bytes.hpp"

namespace regroup {
namespace {

const RegistryRequest kGet{.number = 1, .operation = RegistryOperation::kGet, .key = "k"};
const RegistryRequest kPut{.number = 2,
                           .operation = RegistryOperation::kPut,
                           .key = "key",
                           .value = "value",
                           .version = 7,
                           .write = 5,
                           .answered = 4};
const RegistryRequest kWatch{.number = 3,
                             .operation = RegistryOperation::kWatch,
                             .key = "key",
                             .version = 9,
                             .left = kSecond};

Buffer bytes_of(const RegistryRequest& request) {
  Buffer bytes;
  Writer writer(bytes);
  put_registry_request(writer, request);
  return bytes;
}

std::optional<RegistryRequest> read(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  return get_registry_request(reader);
}

bool is_taken(RegistryRequest request, void (*change)(RegistryRequest&)) {
  change(request);
  return read(bytes_of(request).view()).has_value();
}

TEST(RegistryCall, RequestsComeAsTheyWent) {
  for (const RegistryRequest& request : {kGet, kPut, kWatch}) {
    const Buffer bytes = bytes_of(request);
    const auto read_back = read(bytes.view());
    ASSERT_TRUE(read_back.has_value());
    EXPECT_EQ(read_back->number, request.number);
    EXPECT_EQ(read_back->operation, request.operation);
    EXPECT_EQ(read_back->key, request.key);
    EXPECT_EQ(read_back->value, request.value);
    EXPECT_EQ(read_back->version, request.version);
    EXPECT_EQ(read_back->write, request.write);
    EXPECT_EQ(read_back->answered, request.answered);
    EXPECT_EQ(read_back->left, request.left);
  }
}

TEST(RegistryCall, APutIsLaidOutAsItIsWritten) {
  Buffer expected;
  Writer writer(expected);
  writer.put(std::uint64_t{2});
  writer.put(std::uint8_t{1});
  writer.put_string("key");
  for (const std::uint64_t number : {5u, 4u, 7u}) writer.put(number);
  writer.put_string("value");
  EXPECT_TRUE(std::ranges::equal(bytes_of(kPut).view(), expected.view()));
}

TEST(RegistryCall, RequestsBeyondABoundAreRefused) {
  const std::string long_key(kRegistryKeyBytesMax + 1, 'k');
  const std::string long_value(kRegistryValueBytesMax + 1, 'v');
  RegistryRequest with_key = kPut;
  with_key.key = long_key;
  EXPECT_FALSE(read(bytes_of(with_key).view()));
  with_key.key = std::string_view(long_key).substr(1);
  EXPECT_TRUE(read(bytes_of(with_key).view()));
  RegistryRequest with_value = kPut;
  with_value.value = long_value;
  EXPECT_FALSE(read(bytes_of(with_value).view()));
  with_value.value = std::string_view(long_value).substr(1);
  EXPECT_TRUE(read(bytes_of(with_value).view()));

  EXPECT_FALSE(is_taken(kGet, [](auto& request) { request.number = 0; }));
  EXPECT_FALSE(is_taken(kPut, [](auto& request) { request.write = request.answered; }));
  EXPECT_TRUE(is_taken(kPut, [](auto& request) { request.write = 4 + kRegistryCallsMax; }));
  EXPECT_FALSE(is_taken(kPut, [](auto& request) { request.write = 5 + kRegistryCallsMax; }));
  EXPECT_FALSE(is_taken(kWatch, [](auto& request) { request.left = -1; }));
  EXPECT_FALSE(is_taken(kWatch, [](auto& request) { request.left = kRegistryTimeoutMax + 1; }));
}

TEST(RegistryCall, NoPartOfARequestIsOne) {
  for (const RegistryRequest& request : {kGet, kPut, kWatch}) {
    const Buffer good = bytes_of(request);
    for_each_cut(good.view(), [&](auto bytes, std::size_t) { EXPECT_FALSE(read(bytes)); });
    for_each_damage(good.view(), 1, 300, [](auto bytes) { (void)read(bytes); });
    Buffer longer(good.view());
    longer.resize(good.size() + 1);
    EXPECT_FALSE(read(longer.view()));
  }
  Buffer strange = bytes_of(kGet);
  strange.data()[8] = std::byte{3};  // the operation
  EXPECT_FALSE(read(strange.view()));
}

TEST(RegistryCall, AnswersComeAsTheyWentAndNoPartOfOneIsOne) {
  Buffer good;
  Writer writer(good);
  put_registry_answer(writer, {7, RegistryStatus::kConflict, 8, "value"});
  const auto read_answer = [](std::span<const std::byte> bytes) {
    Reader reader(bytes);
    return get_registry_answer(reader);
  };
  const auto answer = read_answer(good.view());
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->number, 7u);
  EXPECT_EQ(answer->status, RegistryStatus::kConflict);
  EXPECT_EQ(answer->version, 8u);
  EXPECT_EQ(answer->value, "value");
  for_each_cut(good.view(), [&](auto bytes, std::size_t) { EXPECT_FALSE(read_answer(bytes)); });
  good.data()[8] = std::byte{static_cast<unsigned char>(RegistryStatus::kTimedOut)};
  EXPECT_FALSE(read_answer(good.view())) << "only the rank itself finds that out";
}

TEST(RegistryCall, EveryStatusSaysWhatItIs) {
  for (std::size_t status = 0; status < kRegistryStatuses; ++status) {
    EXPECT_NE(describe(static_cast<RegistryStatus>(status)), "unknown");
  }
}

}  // namespace
}  // namespace regroup
