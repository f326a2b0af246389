#include "cc/base/local_file.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(LocalFileTest, UrlsOfFilesArePaths) {
  EXPECT_EQ(LocalPath("file:///a/b"), "/a/b");
  EXPECT_EQ(LocalPath("file://localhost/a/b"), "/a/b");
  EXPECT_EQ(LocalPath("/a/b"), "/a/b");
  EXPECT_EQ(LocalPath("a"), "a");
  EXPECT_EQ(LocalPath("gs://a/b"), "gs://a/b");
  EXPECT_EQ(LocalPath("file://nothing"), "");
  EXPECT_TRUE(IsRemotePath("gs://a/b"));
  EXPECT_FALSE(IsRemotePath("file:///a"));
  EXPECT_FALSE(IsRemotePath("/a"));
}

TEST(LocalFileTest, OnlyRegularFilesAreOpened) {
  const fs::path folder = fs::path(::testing::TempDir()) / "local_file_test";
  fs::remove_all(folder);
  fs::create_directories(folder);
  std::ofstream(folder / "text") << "some text";
  fs::create_symlink("text", folder / "link");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  const int socket_file = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (folder / "socket").c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(socket_file, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);

  for (const std::string& name :
       {(folder / "text").string(), (folder / "link").string(), "file://" + (folder / "text").string()}) {
    EXPECT_TRUE(CheckRegularFile(name).ok()) << name;
    const auto text = ReadLocalFile(name);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, "some text");
  }
  const std::pair<std::string, const char*> others[] = {{(folder / "pipe").string(), "is a FIFO"},
                                                        {(folder / "socket").string(), "is a socket"},
                                                        {folder.string(), "is a directory"},
                                                        {"/dev/zero", "is a device"}};
  for (const auto& [name, kind] : others) {
    EXPECT_THAT(CheckRegularFile(name).ToString(), HasSubstr(kind));
    EXPECT_FALSE(ReadLocalFile(name).ok()) << name;
  }
  EXPECT_THAT(ReadLocalFile((folder / "pipe").string()).status().ToString(), HasSubstr("is a FIFO"));
  EXPECT_TRUE(absl::IsNotFound(CheckRegularFile((folder / "none").string())));
  EXPECT_TRUE(absl::IsNotFound(ReadLocalFile((folder / "none").string()).status()));
  close(socket_file);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace tfipu
